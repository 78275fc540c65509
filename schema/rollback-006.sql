\set ON_ERROR_STOP on
-- Undoes 006. Refuses while 007 is applied, and while rows exist unless told their exact number:
-- psql -v destroy_rows=N -f rollback-006.sql
\if :{?destroy_rows}
select set_config('platform.destroy_rows', :'destroy_rows', false) \g /dev/null
\endif
BEGIN;
-- From here on, nothing that others made in a schema of the caller's search_path can be called.
set local search_path = pg_catalog, pg_temp;
set local client_min_messages = warning;  -- not a line for each thing that is there already
do $$ begin perform pg_advisory_xact_lock(hashtextextended('platform.databases migrations', 0)); end $$;

do $$
declare
  counted text := nullif(current_setting('platform.destroy_rows', true), '');
  existing bigint := 0;
begin
  if to_regclass('platform.database_schedules') is not null then
    raise exception 'migration 007 is applied: roll that back first';
  end if;
  if to_regclass('platform.databases') is null then
    return;
  end if;
  if coalesce(obj_description(to_regclass('platform.databases'), 'pg_class'), '')
     not like 'migration 006:%' then
    raise exception 'platform.databases was not made by migration 006: it stays';
  end if;
  lock table platform.databases in access exclusive mode;
  select count(*) into existing from platform.databases;
  if existing > 0 and counted is distinct from existing::text then
    raise exception 'platform.databases holds % rows: say destroy_rows=% (psql -v destroy_rows=N, schema rollback 006 --destroy-rows N) to destroy them',
      existing, existing;
  end if;
end $$;

drop view if exists platform.databases_with_connection_strings;
drop function if exists platform.get_project_databases(uuid, text);
drop view if exists platform.databases_safe;
drop view if exists platform.database_intervals;
drop table if exists platform.databases;
drop table if exists platform.database_salts;
drop function if exists platform.decrypt_database_connection_string(uuid);
drop function if exists platform.try_open_connection_string(uuid, bytea);
drop function if exists platform.try_open_salted(uuid, bytea, bytea);
drop function if exists platform.open_connection_string(uuid, bytea);
drop function if exists platform.seal_connection_string(uuid, text);
drop function if exists platform.encrypt_database_connection_string();
drop function if exists platform.take_upserted_secret();
drop function if exists platform.forget_sealed_connection_string();
drop function if exists platform.touch_database_updated_at();
drop function if exists platform.update_database_health(uuid, text, text);
drop function if exists platform.update_database_health(uuid, text, text, timestamptz);
drop function if exists platform.update_databases_health(uuid[], text[], text[], timestamptz[]);
drop function if exists platform.build_connection_string(text, text, text, text, integer, text);
drop function if exists platform.percent_encode(text);
drop function if exists platform.mask_connection_string(text);

do $$
begin
  if exists (select from pg_roles where rolname = 'platform_databases_reader')
     and not exists (select from pg_auth_members m join pg_roles r on r.oid = m.roleid
                     where r.rolname = 'platform_databases_reader') then
    drop role platform_databases_reader;
  end if;
exception when dependent_objects_still_exist or insufficient_privilege then null;
end $$;
COMMIT;
