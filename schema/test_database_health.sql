\set ON_ERROR_STOP on
-- Checks that the registry holds what the files make: PASS or FAIL a line, non-zero exit on FAIL.
BEGIN;
create temp view database_health_checks as
select name, coalesce(passed, false) as passed, detail from (values
  ('table platform.databases exists', to_regclass('platform.databases') is not null, ''),
  ('platform.databases has eight indexes',
   (select count(*) = 8 from pg_indexes where schemaname = 'platform' and tablename = 'databases'),
   (select string_agg(indexname, ', ' order by indexname) from pg_indexes
    where schemaname = 'platform' and tablename = 'databases')),
  ('the functions of 006 exist',
   (select count(*) = 5 from pg_proc where pronamespace = to_regnamespace('platform')
    and proname in ('encrypt_database_connection_string', 'decrypt_database_connection_string',
      'get_project_databases', 'update_database_health')), ''),
  ('both views exist',
   to_regclass('platform.databases_safe') is not null
     and to_regclass('platform.databases_with_connection_strings') is not null, ''),
  ('both triggers exist',
   (select count(*) = 2 from pg_trigger where tgrelid = to_regclass('platform.databases')
    and tgname in ('encrypt_database_connection_string_trigger', 'update_databases_updated_at')),
   ''),
  ('a salt exists that others cannot read',
   (select count(*) > 0 from platform.database_salts)
     and not exists (select from information_schema.role_table_grants
       where table_schema = 'platform' and table_name = 'database_salts' and grantee = 'PUBLIC'),
   ''),
  ('no clear text rests in connection_string',
   (select count(*) = 0 from platform.databases where connection_string is not null
    and connection_string_encrypted is null), ''),
  ('every password is masked',
   (select count(*) = 0 from platform.databases where password <> '***'), ''),
  ('every stored connection string decrypts',
   (select count(*) = 0 from platform.databases d where connection_string_encrypted is not null
    and platform.try_open_connection_string(d.project_id, d.connection_string_encrypted) is null),
   ''),
  ('no function is executable by PUBLIC',
   (select count(*) = 0 from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))
    where p.pronamespace = to_regnamespace('platform') and grantee = 0), ''),
  ('the scheduling of 007 is applied', to_regclass('platform.database_schedules') is not null, ''),
  ('every active database is scheduled',
   (select count(*) = 0 from platform.databases d where d.status = 'active' and not exists (
      select from platform.database_schedules s where s.database_id = d.id)), '')
) as checks (name, passed, detail);
select case when passed then 'PASS ' else 'FAIL ' end || name as result
from database_health_checks;
do $$
begin
  if exists (select from database_health_checks where not passed) then
    raise exception 'the registry is not as the files make it';
  end if;
end $$;
ROLLBACK;
