\set ON_ERROR_STOP on
-- Registers Railway's MongoDB and Redis: psql 15 or newer, MONGO_URL and REDIS_URL in the
-- environment, PROJECT_ID too unless a project "Railway" is to be used or made. Safe to repeat.
\getenv mongo_url MONGO_URL
\getenv redis_url REDIS_URL
\getenv project_id PROJECT_ID
\if :{?mongo_url}
\else
\set mongo_url ''
\endif
\if :{?redis_url}
\else
\set redis_url ''
\endif
\if :{?project_id}
\else
\set project_id ''
\endif
BEGIN;
set local search_path = pg_catalog, pg_temp;
-- The statements below hold the URLs: the server shall not log them, where we may say so.
do $$
begin
  set local log_statement = none;
  set local log_min_error_statement = panic;
  set local log_min_duration_statement = -1;
  set local log_min_duration_sample = -1;
  set local log_transaction_sample_rate = 0;
exception when insufficient_privilege then null;
end $$;
select :'mongo_url' = '' as no_mongo_url, :'redis_url' = '' as no_redis_url \gset
\if :no_mongo_url
do $$ begin raise exception 'MONGO_URL is not set: export the URL of the MongoDB to register'; end $$;
\endif
\if :no_redis_url
do $$ begin raise exception 'REDIS_URL is not set: export the URL of the Redis to register'; end $$;
\endif
do $$
begin
  if to_regclass('platform.databases') is null then
    raise exception 'platform.databases is missing: apply 006_add_platform_databases_table.sql first';
  end if;
end $$;
do $$ begin perform pg_advisory_xact_lock(hashtextextended('platform.databases migrations', 0)); end $$;

insert into platform.projects (id, name)
select coalesce(nullif(:'project_id', '')::uuid, gen_random_uuid()), 'Railway'
where not exists (
  select from platform.projects
  where case when :'project_id' = '' then name = 'Railway' else id::text = lower(:'project_id') end);

insert into platform.databases (project_id, name, type, host, port, database, connection_string,
  config, metadata)
select project.id, railway.*
from (select id from platform.projects
      where case when :'project_id' = '' then name = 'Railway'
                 else id::text = lower(:'project_id') end
      order by id limit 1) as project
cross join (values
  ('Railway MongoDB', 'mongodb', 'mongodb.railway.internal', 27017, 'admin', :'mongo_url',
   '{"authSource": "admin", "minPoolSize": 2, "maxPoolSize": 10,
     "serverSelectionTimeoutMS": 5000, "retryWrites": true, "directConnection": true}'::jsonb,
   '{"provider": "railway", "environment": "production", "network": "private"}'::jsonb),
  ('Railway Redis', 'redis', 'redis.railway.internal', 6379, '0', :'redis_url',
   '{"db": 0, "keyPrefix": "studio:", "connectTimeout": 10000, "commandTimeout": 5000,
     "retryStrategy": {"maxAttempts": 3, "delay": 1000}}'::jsonb,
   '{"provider": "railway", "environment": "production", "network": "private"}'::jsonb)
) as railway
where not exists (
  select from platform.databases d
  where d.project_id = project.id and d.name = railway.column1);
COMMIT;
