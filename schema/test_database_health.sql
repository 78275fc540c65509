\set ON_ERROR_STOP on
-- Checks that the registry holds what the files make: PASS or FAIL a line, non-zero exit on FAIL.
BEGIN;
set local search_path = pg_catalog, pg_temp;
create temp table database_health_checks (
  number integer generated always as identity, name text, passed boolean, detail text);

-- Each check is a query of its own, so that one that cannot run fails alone.
do $$
declare
  name text;
  query text;
  passed boolean;
  detail text;
begin
  for name, query in values
    ('table platform.databases is made by 006',
     $q$ select obj_description(to_regclass('platform.databases'), 'pg_class') like 'migration 006:%' $q$),
    ('platform.databases has eight indexes',
     $q$ select count(*) = 8 from pg_indexes
         where schemaname = 'platform' and tablename = 'databases'
         and (indexname = 'databases_pkey' or indexname like 'idx\_databases\_%') $q$),
    ('the functions of 006 exist',
     $q$ select count(*) = 5 from pg_proc where pronamespace = to_regnamespace('platform')
         and proname in ('encrypt_database_connection_string',
           'decrypt_database_connection_string', 'get_project_databases',
           'update_database_health') $q$),
    ('both views exist',
     $q$ select to_regclass('platform.databases_safe') is not null
         and to_regclass('platform.databases_with_connection_strings') is not null $q$),
    ('both triggers exist and are enabled',
     $q$ select count(*) = 2 from pg_trigger where tgrelid = to_regclass('platform.databases')
         and tgenabled <> 'D' and tgname in ('encrypt_database_connection_string_trigger',
           'update_databases_updated_at') $q$),
    ('a salt exists that others cannot read',
     $q$ select exists (select from platform.database_salts) and not exists (
           select from pg_class c, aclexplode(c.relacl) a
           where c.oid = to_regclass('platform.database_salts') and a.grantee <> c.relowner) $q$),
    ('the table is closed to PUBLIC',
     $q$ select not exists (
           select from pg_class c, aclexplode(c.relacl) a
           where c.oid = to_regclass('platform.databases') and a.grantee = 0) $q$),
    ('no connection string rests in clear text',
     $q$ select not exists (select from platform.databases
         where connection_string is not null and connection_string_encrypted is null) $q$),
    ('every password is masked',
     $q$ select not exists (select from platform.databases where password <> '***') $q$),
    ('every stored connection string decrypts to what its mask shows',
     $q$ select not exists (select from platform.databases d
         where d.connection_string_encrypted is not null and d.connection_string is distinct from
           platform.mask_connection_string(platform.try_open_connection_string(
             d.project_id, d.connection_string_encrypted))) $q$),
    ('no function that reads a secret is executable by PUBLIC',
     $q$ select count(*) > 0 and count(*) filter (where exists (
           select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
           where a.grantee = 0)) = 0
         from pg_proc p where p.pronamespace = to_regnamespace('platform') and p.prosecdef
         and p.proname ~ 'connection_string|_secret|_databases|_claimed|database_health' $q$),
    ('007: the worker''s functions are there',
     $q$ select platform.health_worker_schema_version() >= 8 $q$),
    ('007: results are recorded as this build does',
     $q$ select count(kept_status) = 0 from platform.record_check_results('[]') $q$),
    ('007: every active database is scheduled',
     $q$ select not exists (select from platform.databases d
         where d.status = 'active' and not exists (
           select from platform.database_schedules s where s.database_id = d.id)) $q$)
  loop
    continue when name like '007: %' and to_regclass('platform.database_schedules') is null;
    detail := '';
    begin
      execute query into passed;
    exception
      when lock_not_available then
        raise;  -- says nothing of the registry, and each of the next checks would wait as long
      when others then
        passed := false;
        detail := sqlerrm;
    end;
    insert into database_health_checks (name, passed, detail)
    values (name, coalesce(passed, false), detail);
  end loop;
end $$;

select case when passed then 'PASS ' else 'FAIL ' end || name
  || case when detail = '' then '' else ': ' || detail end as result
from database_health_checks order by number;
do $$
begin
  if exists (select from database_health_checks where not passed) then
    raise exception 'the registry is not as the files make it';
  end if;
end $$;
ROLLBACK;
