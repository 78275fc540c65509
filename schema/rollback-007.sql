\set ON_ERROR_STOP on
-- Undoes 007: scheduling, leases and the history of changes are lost; the registry stays.
BEGIN;
-- From here on, nothing that others made in a schema of the caller's search_path can be called.
set local search_path = pg_catalog, pg_temp;
set local client_min_messages = warning;  -- not a line for each thing that is there already
do $$ begin perform pg_advisory_xact_lock(hashtextextended('platform.databases migrations', 0)); end $$;

drop trigger if exists schedule_inserted_database_trigger on platform.databases;
drop trigger if exists schedule_edited_database_trigger on platform.databases;
drop trigger if exists forget_health_of_edited_database_trigger on platform.databases;
drop function if exists platform.schedule_inserted_database();
drop function if exists platform.schedule_edited_database();
drop function if exists platform.forget_health_of_edited_database();
drop function if exists platform.health_worker_schema_version();
drop function if exists platform.tend_database_schedules(uuid, integer, interval, timestamptz);
drop function if exists platform.claim_databases(integer, integer, interval, interval);
drop function if exists platform.claim_databases_by_id(uuid[], interval);
drop function if exists platform.claim_known_databases(uuid[], interval, interval);
drop function if exists platform.read_databases(uuid[]);
drop function if exists platform.read_claimed(uuid[], timestamptz[], interval);
drop function if exists platform.lease_databases(uuid[], interval);
drop function if exists platform.record_check_results(jsonb);
drop function if exists platform.record_database_health(jsonb);
drop function if exists platform.give_back_databases(jsonb);
drop function if exists platform.has_more_databases_than(integer);
drop function if exists platform.database_health_snapshot(uuid, integer, xid8);
drop function if exists platform.database_health_snapshot(uuid, integer);
drop function if exists platform.database_health_snapshot();
drop function if exists platform.count_active_databases();
drop function if exists platform.count_slice_of_databases(uuid, integer);
drop function if exists platform.count_overdue_databases(interval);
drop function if exists platform.claim_unannounced_changes(interval, integer);
drop function if exists platform.mark_changes_announced(bigint[]);
do $$
begin
  if to_regclass('platform.database_intervals') is not null then
    create or replace view platform.database_intervals as
    select null::uuid as database_id, null::double precision as interval_seconds where false;
  end if;
end $$;
drop table if exists platform.database_health_changes;
drop table if exists platform.database_schedules;
drop function if exists platform.keep_restored_schedule();

-- The role goes only when nothing else uses it, in this database or another.
do $$
begin
  if exists (select from pg_roles where rolname = 'platform_health_worker') then
    if to_regnamespace('platform') is not null then
      revoke all on schema platform from platform_health_worker;
    end if;
    if not exists (select from pg_auth_members m join pg_roles r on r.oid = m.roleid
                   where r.rolname = 'platform_health_worker') then
      begin
        drop role platform_health_worker;
      exception when dependent_objects_still_exist or insufficient_privilege then null;
      end;
    end if;
  end if;
end $$;
COMMIT;
