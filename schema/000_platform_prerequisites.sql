\set ON_ERROR_STOP on
-- What the platform brings along already: made only where it is missing.
BEGIN;
-- From here on, nothing that others made in a schema of the caller's search_path can be called.
set local search_path = pg_catalog, pg_temp;
set local client_min_messages = warning;  -- not a line for each thing that is there already
do $$ begin perform pg_advisory_xact_lock(hashtextextended('platform.databases migrations', 0)); end $$;

create schema if not exists platform;
create table if not exists platform.projects (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  created_at timestamptz not null default now()
);
-- In the schema that the caller's search_path names, as everywhere else.
set local search_path to default;
create extension if not exists pgcrypto;
COMMIT;
