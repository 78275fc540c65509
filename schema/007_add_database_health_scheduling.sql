\set ON_ERROR_STOP on
-- What scheduling, replicas and history need, kept out of the wide table.
BEGIN;
-- From here on, nothing that others made in a schema of the caller's search_path can be called.
set local search_path = pg_catalog, pg_temp;
set local client_min_messages = warning;  -- not a line for each thing that is there already
do $$ begin perform pg_advisory_xact_lock(hashtextextended('platform.databases migrations', 0)); end $$;

do $$
begin
  if coalesce(obj_description(to_regclass('platform.databases'), 'pg_class'), '') not like 'migration 006:%' then
    raise exception 'migration 006 is missing: apply 006_add_platform_databases_table.sql first';
  end if;
  if to_regprocedure('platform.try_open_salted(uuid, bytea, bytea)') is null then
    raise exception 'migration 006 is of an older build: apply 006_add_platform_databases_table.sql again';
  end if;
  if not exists (select from pg_roles where rolname = 'platform_health_worker') then
    create role platform_health_worker nologin;
  end if;
exception
  when duplicate_object or unique_violation then null;  -- made just now for another database
  when insufficient_privilege then
    raise exception 'you may not create roles: have "create role platform_health_worker nologin" run first';
end $$;

-- due_at is infinity while the row is not active: it then costs the claim nothing.
create table if not exists platform.database_schedules (
  database_id uuid primary key references platform.databases (id) on delete cascade,
  due_at timestamptz not null default now(),
  leased_until timestamptz,
  spread boolean not null default true,
  slow boolean not null default false,
  last_reason text,
  latency_seconds double precision,
  interval_seconds double precision,
  revision bigint not null default 1
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
create index if not exists idx_database_schedules_slow_due_at
  on platform.database_schedules (slow, due_at);

create table if not exists platform.database_health_changes (
  change_id bigint generated always as identity primary key,
  database_id uuid not null references platform.databases (id) on delete cascade,
  from_status text not null,
  to_status text not null,
  reason text not null,
  error text,
  at timestamptz not null,
  announced_at timestamptz,
  announce_after timestamptz not null default now()
);
create index if not exists idx_database_health_changes_database_id
  on platform.database_health_changes (database_id, at);
create index if not exists idx_database_health_changes_unannounced
  on platform.database_health_changes (announce_after) where announced_at is null;
revoke all on platform.database_schedules, platform.database_health_changes from public;
create or replace view platform.database_intervals as
select database_id, interval_seconds from platform.database_schedules;

insert into platform.database_schedules (database_id, due_at)
select d.id, case when d.status = 'active' then now() else 'infinity' end
from platform.databases d
where not exists (select from platform.database_schedules s where s.database_id = d.id)
on conflict do nothing;

create or replace function platform.schedule_inserted_database()
returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
begin
  -- A row that is made anew under an id begins elsewhere than the one before it: no result of that
  -- is its own. Whoever brings a row may bring the time when it was made, too.
  insert into platform.database_schedules (database_id, due_at, revision)
  values (new.id, case when new.status = 'active' then now() else 'infinity' end,
    (extract(epoch from clock_timestamp()) * 1000000)::bigint)
  on conflict do nothing;
  return null;
end $f$;
create or replace trigger schedule_inserted_database_trigger
  after insert on platform.databases
  for each row execute function platform.schedule_inserted_database();

-- A data-only restore brings schedules of databases that the trigger above has just scheduled.
create or replace function platform.keep_restored_schedule()
returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
begin
  update platform.database_schedules s
  set due_at = new.due_at, leased_until = new.leased_until, spread = new.spread, slow = new.slow,
      last_reason = new.last_reason, latency_seconds = new.latency_seconds,
      interval_seconds = new.interval_seconds, revision = new.revision
  where s.database_id = new.database_id and (new.revision >= s.revision or s.last_reason is null)
    and (new.revision > 1 or new.last_reason is not null);
  if exists (select from platform.database_schedules s where s.database_id = new.database_id) then
    return null;
  end if;
  return new;
end $f$;
create or replace trigger keep_restored_schedule_trigger
  before insert on platform.database_schedules
  for each row when (pg_trigger_depth() = 0) execute function platform.keep_restored_schedule();

create or replace function platform.schedule_edited_database()
returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
declare
  is_edited boolean := (new.connection_string_encrypted, new.config, new.ssl_enabled, new.type,
      new.project_id)
    is distinct from
    (old.connection_string_encrypted, old.config, old.ssl_enabled, old.type, old.project_id);
begin
  insert into platform.database_schedules as s (database_id, due_at)
  values (new.id, case when new.status = 'active' then now() else 'infinity' end)
  -- At once, but not behind those that have waited less: slots may be short, and edits frequent.
  on conflict (database_id) do update
  set due_at = case when new.status = 'active' then least(s.due_at, now()) else 'infinity' end,
    leased_until = null, spread = true, slow = s.slow and not is_edited,
      revision = s.revision + case when is_edited then 1 else 0 end
  where is_edited or (new.status = 'active') is distinct from (old.status = 'active');
  return null;
end $f$;
create or replace trigger schedule_edited_database_trigger
  after update of connection_string, connection_string_encrypted, config, ssl_enabled, type,
    project_id, status, host, port, database, username, password on platform.databases
  for each row execute function platform.schedule_edited_database();

-- Fires after the encrypt trigger: names decide the order. Moving to another project encrypts anew.
create or replace function platform.forget_health_of_edited_database()
returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
begin
  if (new.type, new.ssl_enabled) is distinct from (old.type, old.ssl_enabled)
     or new.connection_string_encrypted is distinct from old.connection_string_encrypted
     and (new.project_id = old.project_id
          or platform.try_open_connection_string(new.project_id, new.connection_string_encrypted)
          is distinct from
          platform.try_open_connection_string(old.project_id, old.connection_string_encrypted)) then
    new.health_check_status := 'unknown';
    new.health_check_error := null;
  end if;
  return new;
end $f$;
create or replace trigger forget_health_of_edited_database_trigger
  before update of connection_string, connection_string_encrypted, type, ssl_enabled, host, port,
    database, username, password on platform.databases
  for each row execute function platform.forget_health_of_edited_database();

create or replace function platform.health_worker_schema_version()
returns integer language sql immutable set search_path = pg_catalog, pg_temp
set lock_timeout = '5s' as 'select 8';

-- The functions from here on touch few rows of a table that may hold a million. Without statistics,
-- or with those of yesterday, PostgreSQL would now and then read it whole; and compile for that.
-- What waits for a lock ends soon: the worker gives up, and each of its next calls would wait, too.
create or replace function platform.tend_database_schedules(
  after uuid, batch integer, lease interval, expected_now timestamptz)
returns table (next_after uuid, registry_now timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
declare
  looked_at uuid[];
  active uuid[];
  suspect uuid[];
  stray uuid[];
begin
  select array_agg(l.id), array_agg(l.id) filter (where l.status = 'active')
  into looked_at, active
  from (
    select d.id, d.status from platform.databases d
    where d.id >= coalesce(after, '00000000-0000-0000-0000-000000000000')
      and d.id is distinct from after
    order by d.id limit batch) l;
  suspect := array(
    select a.id from unnest(active) as a (id)
    left join platform.database_schedules s on s.database_id = a.id
    where s.database_id is null
      or s.due_at > now() + lease + 1.5 * make_interval(secs => coalesce(s.interval_seconds, 0)));
  if cardinality(suspect) > 0 then
    -- Here and below, rows that an open transaction holds wait for the next round.
    insert into platform.database_schedules (database_id, due_at)
    select d.id, now() from platform.databases d
    where d.id = any (suspect) and d.status = 'active'
      and not exists (select from platform.database_schedules s where s.database_id = d.id)
    for no key update skip locked
    on conflict do nothing;
    stray := array(
      select s.database_id from platform.database_schedules s
      join platform.databases d on d.id = s.database_id and d.status = 'active'
      where s.database_id = any (suspect)
        and s.due_at > now() + lease + 1.5 * make_interval(secs => coalesce(s.interval_seconds, 0))
      for update of s skip locked);
  end if;
  if expected_now > now() + interval '10 seconds' then
    stray := coalesce(stray, '{}') || array(
      select s.database_id from platform.database_schedules s
      join platform.databases d on d.id = s.database_id and d.status = 'active'
      where s.due_at > now() + lease + 1.5 * make_interval(secs => coalesce(s.interval_seconds, 0))
      for update of s skip locked);
  end if;
  update platform.database_schedules s
  set due_at = now() + random() * make_interval(secs => coalesce(s.interval_seconds, 0)),
      leased_until = null
  where s.database_id = any (stray);
  if expected_now < now() - interval '10 seconds' then
    stray := array(
      select s.database_id from platform.database_schedules s
      where s.due_at between expected_now and now() - interval '5 seconds'
      for update skip locked);
    update platform.database_schedules s
    set due_at = now() + random() * make_interval(secs => coalesce(s.interval_seconds, 0))
    where s.database_id = any (stray);
  end if;
  return query select
    case when cardinality(looked_at) = batch then looked_at[batch] end, now();
end $f$;

-- Functions of an early build gave a column less, which `create or replace` cannot mend.
do $migration$ begin
  if exists (select from pg_catalog.pg_proc p
             where p.pronamespace = 'platform'::regnamespace and p.proname = 'read_claimed'
               and 'slow' <> all (p.proargnames)) then
    drop function if exists platform.claim_databases(integer, integer, interval, interval),
      platform.claim_databases_by_id(uuid[], interval), platform.read_databases(uuid[]),
      platform.read_claimed(uuid[], timestamptz[], interval);
  end if;
end $migration$;

-- The rows of one claim, decrypted one by one; called with ids so that the plan is by index. What
-- is longer than the worker takes is cut a character behind that, so that no row fills its memory.
create or replace function platform.read_claimed(ids uuid[], slots timestamptz[], lease interval)
returns table (id uuid, project_id uuid, name text, engine text, connection_string text,
  is_decrypted boolean, ssl_enabled boolean, config text, revision bigint, slot timestamptz,
  leased_until timestamptz, claimed_at timestamptz, status text, last_reason text, slow boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off as $f$
begin
  return query
  select d.id, d.project_id, left(d.name, 201), d.type, left(opened.text, 16385),
    opened.text is not null or d.connection_string_encrypted is null,
    d.ssl_enabled, left(d.config::text, 262145), coalesce(s.revision, 1), due.slot, now() + lease,
    now(), d.health_check_status, s.last_reason, coalesce(s.slow, false)
  from unnest(ids, slots) as due (database_id, slot)
  join platform.databases d on d.id = due.database_id and d.status = 'active'
  left join platform.database_schedules s on s.database_id = d.id
  left join platform.database_salts t
    on uuid_send(t.version) = substr(d.connection_string_encrypted, 1, 16)
  cross join lateral (
    select platform.try_open_salted(d.project_id, d.connection_string_encrypted, t.salt)
    offset 0) as opened (text)
  order by due.slot;
end $f$;

-- Leases rows that are due; what has waited for half its interval is spread anew.
create or replace function platform.lease_databases(ids uuid[], lease interval)
returns void language plpgsql volatile set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off as $f$
begin
  update platform.database_schedules s
  set due_at = now() + lease, leased_until = now() + lease,
      spread = s.spread
        or s.due_at < now() - make_interval(secs => coalesce(s.interval_seconds, 0) / 2)
  where s.database_id = any (ids);
end $f$;

create or replace function platform.claim_databases(
  slots integer, slow_slots integer, horizon interval, lease interval)
returns table (id uuid, project_id uuid, name text, engine text, connection_string text,
  is_decrypted boolean, ssl_enabled boolean, config text, revision bigint, slot timestamptz,
  leased_until timestamptz, claimed_at timestamptz, status text, last_reason text, slow boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
declare
  ids uuid[];
  dues timestamptz[];
begin
  with quick as materialized (
    select s.database_id, s.due_at from platform.database_schedules s
    where not s.slow and s.due_at <= now() + horizon
      and (s.leased_until is null or s.leased_until <= now())
    order by s.due_at limit slots for update skip locked
  ), sluggish as materialized (
    select s.database_id, s.due_at from platform.database_schedules s
    where s.slow and s.due_at <= now() + horizon
      and (s.leased_until is null or s.leased_until <= now())
    order by s.due_at limit least(slow_slots, slots) for update skip locked
  ), due as (
    select * from quick union all select * from sluggish order by due_at limit slots
  )
  -- No older than a client can read it: somebody may have set -infinity, or a year BC.
  select array_agg(due.database_id), array_agg(greatest(due.due_at, now() - interval '1 year'))
  into ids, dues from due;
  perform platform.lease_databases(ids, lease);
  return query select * from platform.read_claimed(ids, dues, lease);
end $f$;

-- After an outage: of the rows that a replica knows those that are due, by their primary keys.
create or replace function platform.claim_known_databases(
  ids uuid[], horizon interval, lease interval)
returns table (id uuid, project_id uuid, name text, engine text, connection_string text,
  is_decrypted boolean, ssl_enabled boolean, config text, revision bigint, slot timestamptz,
  leased_until timestamptz, claimed_at timestamptz, status text, last_reason text, slow boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
declare
  free uuid[];
  dues timestamptz[];
begin
  with due as materialized (
    select s.database_id, s.due_at from platform.database_schedules s
    where s.database_id = any (ids) and s.due_at <= now() + horizon
      and (s.leased_until is null or s.leased_until <= now())
    order by s.database_id for update skip locked
  )
  select array_agg(due.database_id), array_agg(greatest(due.due_at, now() - interval '1 year'))
  into free, dues from due;
  perform platform.lease_databases(free, lease);
  return query select * from platform.read_claimed(free, dues, lease);
end $f$;

create or replace function platform.claim_databases_by_id(ids uuid[], lease interval)
returns table (id uuid, project_id uuid, name text, engine text, connection_string text,
  is_decrypted boolean, ssl_enabled boolean, config text, revision bigint, slot timestamptz,
  leased_until timestamptz, claimed_at timestamptz, status text, last_reason text, slow boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '5s' as $f$
declare
  free uuid[];
begin
  insert into platform.database_schedules (database_id)
  select d.id from platform.databases d
  where d.status = 'active' and (ids is null or d.id = any (ids))
    and not exists (select from platform.database_schedules s where s.database_id = d.id)
  for no key update skip locked
  on conflict do nothing;
  free := array(
    select s.database_id from platform.database_schedules s
    join platform.databases d on d.id = s.database_id and d.status = 'active'
    where (ids is null or s.database_id = any (ids))
      and (s.leased_until is null or s.leased_until <= now())
    order by s.database_id for update of s skip locked);
  update platform.database_schedules s
  set due_at = now() + lease, leased_until = now() + lease, spread = true
  where s.database_id = any (free);
  return query select * from platform.read_claimed(
    free, array_fill(now(), array[cardinality(free)]), lease);
end $f$;

create or replace function platform.read_databases(ids uuid[])
returns table (id uuid, project_id uuid, name text, engine text, connection_string text,
  is_decrypted boolean, ssl_enabled boolean, config text, revision bigint, slot timestamptz,
  leased_until timestamptz, claimed_at timestamptz, status text, last_reason text, slow boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '5s' as $f$
declare
  found_ids uuid[] := array(
    select d.id from platform.databases d
    where d.status = 'active' and (ids is null or d.id = any (ids)));
begin
  return query select * from platform.read_claimed(
    found_ids, array_fill(now(), array[cardinality(found_ids)]), interval '0');
end $f$;

-- Functions that answered in another shape in earlier builds cannot be replaced.
drop function if exists platform.record_check_results(jsonb), platform.record_database_health(jsonb),
  platform.claim_unannounced_changes(interval, integer);

-- A change that the worker did not hear of, its answer being lost, is told again while nobody has
-- announced it. Where a later check's status is kept, `kept_status` and `kept_error` are of that.
create or replace function platform.record_check_results(results jsonb)
returns table (database_id uuid, outcome text, change_id bigint, previous text,
  next_due timestamptz, kept_status text, kept_error text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
declare
  asked uuid[] := array(
    select distinct (r ->> 'database_id')::uuid from jsonb_array_elements(results) r);
  gone uuid[];
  ids uuid[];
  statuses text[];
  are_active boolean[];
  times timestamptz[];
begin
  -- By a statement of its own, so that the next one sees every edit made before the lock.
  select coalesce(array_agg(l.id), '{}'), array_agg(l.health_check_status), array_agg(l.is_active),
    array_agg(l.last_health_check_at)
  into ids, statuses, are_active, times
  from (
    select d.id, d.health_check_status, d.status = 'active' as is_active, d.last_health_check_at
    from platform.databases d where d.id = any (asked) order by d.id
    for no key update skip locked) l;
  if cardinality(ids) < cardinality(asked) then
    -- By id, too: within the next statement this would read the whole table.
    gone := array(
      select unnest(asked) except select d.id from platform.databases d where d.id = any (asked));
  end if;
  return query
  with given as materialized (
    select distinct on (r.database_id) r.*
    from rows from (jsonb_to_recordset(results) as (
      database_id uuid, revision bigint, slot timestamptz, leased_until timestamptz,
      started_at timestamptz, checked_at timestamptz, status text, reason text, error text,
      latency_seconds double precision, interval_seconds double precision, slow boolean))
      with ordinality as r
    order by r.database_id, r.ordinality desc
  ), compared as materialized (
    select g.*, l.previous, coalesce(l.is_active, false) as is_active,
      coalesce(l.checked_at < g.checked_at or l.checked_at > now(), true) as is_newer
    from given g
    left join unnest(ids, statuses, are_active, times) as l (id, previous, is_active, checked_at)
      on l.id = g.database_id
    where l.id is not null or g.database_id = any (gone)
  ), rescheduled as (
    update platform.database_schedules s
    set last_reason = case when j.is_newer then j.reason else s.last_reason end,
        latency_seconds = case when j.is_newer then j.latency_seconds else s.latency_seconds end,
        interval_seconds = j.interval_seconds,
        -- Now and then a quick check makes up for a slow one: whoever is slow every other time
        -- stays among his like.
        slow = case when not j.is_newer then s.slow
          else coalesce(j.slow, j.reason in ('timeout', 'dns', 'unreachable'))
            or (s.slow and random() < 0.75) end,
        (due_at, leased_until, spread) = (
          select case
              when not lease.is_mine then s.due_at
              else least(now() + 1.5 * make_interval(secs => j.interval_seconds), greatest(now(),
                case when s.spread
                     then j.started_at + (0.5 + random()) * make_interval(secs => j.interval_seconds)
                     else j.slot + make_interval(secs => j.interval_seconds) end)) end,
            case when not lease.is_mine then s.leased_until end,
            s.spread and not lease.is_mine
          from (select s.leased_until is not distinct from j.leased_until
            or (s.due_at <= now() and coalesce(s.leased_until <= now(), true)) as is_mine) lease)
    from compared j
    where s.database_id = j.database_id and j.is_active and s.revision = j.revision
    returning s.database_id,
      least(greatest(s.due_at, now() - interval '1 year'), now() + interval '1 year') as due_at
  ), judged as materialized (
    select j.*, r.due_at,
      case when not j.is_active then 'gone'
           when r.database_id is null and exists (
             select from platform.database_schedules s where s.database_id = j.database_id)
           then 'edited'
           when j.is_newer then 'recorded' else 'kept' end as outcome
    from compared j left join rescheduled r on r.database_id = j.database_id
  ), news as materialized (
    select * from judged j where j.outcome = 'recorded' and j.status is not null
  ), written as materialized (
    select platform.update_databases_health(array_agg(n.database_id), array_agg(n.status),
      array_agg(n.error), array_agg(n.checked_at))
    from news n
  ), changed as (
    insert into platform.database_health_changes
      (database_id, from_status, to_status, reason, error, at)
    select n.database_id, n.previous, n.status, n.reason, n.error, least(n.checked_at, now())
    from news n where n.status <> n.previous
    returning database_health_changes.database_id, database_health_changes.change_id
  )
  select j.database_id, j.outcome, coalesce(c.change_id, lost.change_id),
    coalesce(lost.from_status, j.previous), j.due_at,
    case when j.outcome = 'kept' then j.previous end,
    case when j.outcome = 'kept' then (
      select d.health_check_error from platform.databases d where d.id = j.database_id) end
  from judged j
  cross join written  -- without a mention it would not be carried out
  left join changed c on c.database_id = j.database_id
  left join lateral (
    select h.change_id, h.from_status from platform.database_health_changes h
    where j.outcome = 'kept' and h.database_id = j.database_id and h.at = j.checked_at
      and h.to_status = j.status and h.announced_at is null limit 1) lost on true;
end $f$;

-- The same for workers of an earlier build, which may be at work while this is applied.
create or replace function platform.record_database_health(results jsonb)
returns table (database_id uuid, outcome text, change_id bigint, previous text,
  next_due timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '5s' as $f$
begin
  return query
  select r.database_id, r.outcome, r.change_id, r.previous, r.next_due
  from platform.record_check_results(results) r;
end $f$;

create or replace function platform.give_back_databases(leases jsonb)
returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
declare
  given_back integer;
  free uuid[];
begin
  -- A row that an open edit holds is left: the edit makes it due itself.
  free := array(
    select s.database_id from platform.database_schedules s
    where s.database_id in (
      select (l ->> 'database_id')::uuid from jsonb_array_elements(leases) l)
    order by s.database_id for no key update skip locked);
  update platform.database_schedules s
  set due_at = l.slot, leased_until = null
  from jsonb_to_recordset(leases) as l (
    database_id uuid, leased_until timestamptz, slot timestamptz)
  where s.database_id = any (free) and s.database_id = l.database_id
    and s.leased_until = l.leased_until;
  get diagnostics given_back = row_count;
  return given_back;
end $f$;

-- Never looks at more rows than it has to, nor at inactive ones: there may be a million of either.
create or replace function platform.has_more_databases_than(databases integer)
returns boolean language sql stable security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
  select count(*) > databases from (
    select from platform.databases d where d.status = 'active' limit databases + 1) counted
$f$;

-- Walks by id: a slice that is not full is the last. `since` leaves out the rows that no transaction
-- from that one on has written; one that writes for long brings all that was written since it began.
drop function if exists platform.database_health_snapshot(uuid, integer);
create or replace function platform.database_health_snapshot(
  after uuid, batch integer, since xid8 default null)
returns table (database_id uuid, project_id uuid, name text, engine text, status text,
  reason text, latency_seconds double precision, last_health_check_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
  select d.id, d.project_id, left(d.name, 201), d.type, d.health_check_status, s.last_reason,
    s.latency_seconds, d.last_health_check_at
  from platform.databases d
  left join platform.database_schedules s on s.database_id = d.id
  where d.status = 'active' and d.id >= coalesce(after, '00000000-0000-0000-0000-000000000000')
    and d.id is distinct from after
    and (since is null or least(age(d.xmin), age(s.xmin)) <= age(since::xid))
  order by d.id limit batch
$f$;

create or replace function platform.count_active_databases()
returns table (engine text, status text, databases bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
  select d.type, d.health_check_status, count(*) from platform.databases d
  where d.status = 'active' group by 1, 2
$f$;

-- For a fleet too large for a snapshot: who counts walks through the ids, a slice at a time.
-- The status of those that are not active is null; a slice that is not full is the last.
create or replace function platform.count_slice_of_databases(after uuid, batch integer)
returns table (engine text, status text, databases bigint, last_id uuid)
language sql stable security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
  with slice as materialized (
    select d.id, d.type, case when d.status = 'active' then d.health_check_status end as status
    from platform.databases d
    where d.id >= coalesce(after, '00000000-0000-0000-0000-000000000000')
      and d.id is distinct from after
    order by d.id limit batch)
  select s.type, s.status, count(*),
    (select l.id from slice l order by l.id desc limit 1)
  from slice s group by 1, 2
$f$;

create or replace function platform.count_overdue_databases(overdue_after interval)
returns bigint language sql stable security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '5s' as $f$
  select count(*) from platform.database_schedules s
  where s.slow in (false, true) and s.due_at < now() - overdue_after
$f$;

-- A change is superseded where a later one of its database is told already, or by somebody else.
create or replace function platform.claim_unannounced_changes(older_than interval, batch integer)
returns table (change_id bigint, database_id uuid, project_id uuid, name text, engine text,
  previous text, status text, reason text, error text, changed_at timestamptz,
  is_superseded boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
declare
  ids bigint[] := array(
    select c.change_id from platform.database_health_changes c
    where c.announced_at is null and c.announce_after <= now() - older_than
    order by c.announce_after limit batch for update skip locked);
begin
  update platform.database_health_changes c set announce_after = now()
  where c.change_id = any (ids);
  return query
  select c.change_id, c.database_id, d.project_id, left(d.name, 201), d.type, c.from_status,
    c.to_status, c.reason, c.error, c.at, exists (
      select from platform.database_health_changes l
      where l.database_id = c.database_id and l.at >= c.at and l.change_id > c.change_id
        and l.change_id <> all (ids))
  from platform.database_health_changes c
  join platform.databases d on d.id = c.database_id
  where c.change_id = any (ids) order by c.change_id;
end $f$;

create or replace function platform.mark_changes_announced(change_ids bigint[])
returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off set lock_timeout = '5s' as $f$
declare
  marked integer;
begin
  update platform.database_health_changes c set announced_at = now()
  where c.change_id = any (change_ids) and c.announced_at is null;
  get diagnostics marked = row_count;
  return marked;
end $f$;

revoke all on function
  platform.schedule_inserted_database(),
  platform.schedule_edited_database(),
  platform.forget_health_of_edited_database(),
  platform.keep_restored_schedule(),
  platform.health_worker_schema_version(),
  platform.tend_database_schedules(uuid, integer, interval, timestamptz),
  platform.read_claimed(uuid[], timestamptz[], interval),
  platform.lease_databases(uuid[], interval),
  platform.claim_databases(integer, integer, interval, interval),
  platform.claim_databases_by_id(uuid[], interval),
  platform.claim_known_databases(uuid[], interval, interval),
  platform.read_databases(uuid[]),
  platform.record_check_results(jsonb),
  platform.record_database_health(jsonb),
  platform.give_back_databases(jsonb),
  platform.has_more_databases_than(integer),
  platform.database_health_snapshot(uuid, integer, xid8),
  platform.count_active_databases(),
  platform.count_slice_of_databases(uuid, integer),
  platform.count_overdue_databases(interval),
  platform.claim_unannounced_changes(interval, integer),
  platform.mark_changes_announced(bigint[])
  from public;
grant usage on schema platform to platform_health_worker;
grant execute on function
  platform.health_worker_schema_version(),
  platform.tend_database_schedules(uuid, integer, interval, timestamptz),
  platform.claim_databases(integer, integer, interval, interval),
  platform.claim_databases_by_id(uuid[], interval),
  platform.claim_known_databases(uuid[], interval, interval),
  platform.read_databases(uuid[]),
  platform.record_check_results(jsonb),
  platform.record_database_health(jsonb),
  platform.give_back_databases(jsonb),
  platform.has_more_databases_than(integer),
  platform.database_health_snapshot(uuid, integer, xid8),
  platform.count_active_databases(),
  platform.count_slice_of_databases(uuid, integer),
  platform.count_overdue_databases(interval),
  platform.claim_unannounced_changes(interval, integer),
  platform.mark_changes_announced(bigint[])
  to platform_health_worker;
COMMIT;
