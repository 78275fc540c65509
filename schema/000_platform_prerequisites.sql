\set ON_ERROR_STOP on
-- What the platform brings along already: made only where it is missing.
BEGIN;
do $$ begin perform pg_advisory_xact_lock(hashtextextended('platform.databases migrations', 0)); end $$;

create schema if not exists platform;
create extension if not exists pgcrypto;
create table if not exists platform.projects (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  created_at timestamptz not null default now()
);
COMMIT;
