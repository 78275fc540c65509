\set ON_ERROR_STOP on
-- The registry: one row a database, its connection string encrypted, its health in three columns.
BEGIN;
-- From here on, nothing that others made in a schema of the caller's search_path can be called.
set local search_path = pg_catalog, pg_temp;
set local client_min_messages = warning;  -- not a line for each thing that is there already
do $$ begin perform pg_advisory_xact_lock(hashtextextended('platform.databases migrations', 0)); end $$;

do $$
begin
  if to_regclass('platform.projects') is null then
    raise exception 'platform.projects is missing: apply 000_platform_prerequisites.sql first';
  end if;
  if to_regclass('platform.databases') is not null
     and coalesce(obj_description(to_regclass('platform.databases'), 'pg_class'), '') not like 'migration 006:%' then
    raise exception 'platform.databases exists and was not made by migration 006: rename it first';
  end if;
  if not exists (select from pg_roles where rolname = 'platform_databases_reader') then
    create role platform_databases_reader nologin;
  end if;
exception
  when duplicate_object or unique_violation then null;  -- made just now for another database
  when insufficient_privilege then
    raise exception 'you may not create roles: have "create role platform_databases_reader nologin" run first';
end $$;

create table if not exists platform.databases (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references platform.projects (id) on delete cascade,
  name text not null,
  type text not null,
  host text,
  port integer,
  database text,
  username text,
  password text,
  connection_string text,
  connection_string_encrypted bytea,
  ssl_enabled boolean not null default false,
  config jsonb not null default '{}',
  metadata jsonb not null default '{}',
  status text not null default 'active',
  health_check_status text not null default 'unknown',
  last_health_check_at timestamptz,
  health_check_error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint databases_type_check check (type in ('mongodb', 'redis', 'postgresql')),
  constraint databases_status_check check (status in ('active', 'inactive', 'error')),
  constraint databases_health_check_status_check
    check (health_check_status in ('unknown', 'healthy', 'degraded', 'unhealthy'))
) with (fillfactor = 70);
comment on table platform.databases is 'migration 006: the registry of users'' databases';

create index if not exists idx_databases_project_id on platform.databases (project_id);
create index if not exists idx_databases_type on platform.databases (type);
-- With the id, so that the active ones can be walked through among a million of others.
create index if not exists idx_databases_status on platform.databases (status, id);
create index if not exists idx_databases_project_type_status
  on platform.databases (project_id, type, status);
create index if not exists idx_databases_health_check on platform.databases (health_check_status);
create index if not exists idx_databases_created_at on platform.databases (created_at);
create index if not exists idx_databases_updated_at on platform.databases (updated_at);

-- Versioned, so that a restore adds a salt and never replaces one.
create table if not exists platform.database_salts (
  version uuid primary key default gen_random_uuid(),
  salt bytea not null,
  created_at timestamptz not null default clock_timestamp()
);
revoke all on platform.databases, platform.database_salts from public;

-- pgcrypto is called by the schema it is found in, so the functions that use it are written here; with
-- its exact argument types, so that no function of the same name in that schema fits better.
do $migration$
declare
  crypto text := (select quote_ident(n.nspname) from pg_extension e
                  join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pgcrypto');
begin
  if crypto is null then
    raise exception 'the extension pgcrypto is missing: apply 000_platform_prerequisites.sql first';
  end if;
  execute format('insert into platform.database_salts (salt) select %s.gen_random_bytes(32)
                  where not exists (select from platform.database_salts)', crypto);

  execute format($body$
    create or replace function platform.seal_connection_string(project uuid, clear text)
    returns bytea language sql volatile security definer set search_path = pg_catalog, pg_temp as $f$
      select uuid_send(s.version) || %1$s.pgp_sym_encrypt(
        clear,
        encode(%1$s.hmac(uuid_send(project), s.salt, 'sha256'::text), 'hex'),
        'cipher-algo=aes256, s2k-mode=1'::text)
      from platform.database_salts s order by s.created_at desc, s.version limit 1
    $f$ $body$, crypto);

  execute format($body$
    create or replace function platform.open_connection_string(project uuid, sealed bytea)
    returns text language sql stable security definer set search_path = pg_catalog, pg_temp as $f$
      select %1$s.pgp_sym_decrypt(
        substr(sealed, 17),
        encode(%1$s.hmac(uuid_send(project), s.salt, 'sha256'::text), 'hex'))
      from platform.database_salts s where uuid_send(s.version) = substr(sealed, 1, 16)
    $f$ $body$, crypto);

  -- Null where the ciphertext does not decrypt: it fails for its row alone. Who opens many rows looks
  -- up their salts himself: to do that for every row costs as much as to decrypt it.
  execute format($body$
    create or replace function platform.try_open_salted(project uuid, sealed bytea, salt bytea)
    returns text language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $f$
    begin
      return %1$s.pgp_sym_decrypt(
        substr(sealed, 17), encode(%1$s.hmac(uuid_send(project), salt, 'sha256'::text), 'hex'));
    exception when others then
      return null;
    end $f$ $body$, crypto);
end $migration$;

create or replace function platform.try_open_connection_string(project uuid, sealed bytea)
returns text language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $f$
begin
  return platform.try_open_salted(project, sealed, (
    select s.salt from platform.database_salts s where uuid_send(s.version) = substr(sealed, 1, 16)));
end $f$;

-- The mask, the same as worker.connection.mask; both run the cases of tests/schema/mask_cases.json:
--   1. text without `scheme://` (a letter, then letters, digits, + . -) becomes `***`;
--   2. authority = up to the first of / ? #; its user info ends at the last @;
--   3. `scheme://***` where the rest is no URL, or may be a password that is not percent-encoded:
--      longer than 16384 characters, a blank or control character, @ in the user info, hosts that
--      are not host[:port],..., one of @ # & = ; : , in the path, # in the query, @ in the query
--      (but for appname=@name@, which ends no user info);
--   4. a password (behind the first : of the user info) becomes ***;
--   5. in the query every option keeps its name; a value keeps standing if the name is harmless
--      and the value plain, else it becomes ***; a part without = becomes ***.
create or replace function platform.mask_connection_string(clear text)
returns text language plpgsql immutable set search_path = pg_catalog, pg_temp as $f$
declare
  harmless constant text[] := array[
    'appname', 'application_name', 'authmechanism', 'authsource', 'connecttimeoutms',
    'connect_timeout', 'db', 'directconnection', 'loadbalanced', 'maxpoolsize', 'minpoolsize',
    'readpreference', 'replicaset', 'retryreads', 'retrywrites', 'serverselectiontimeoutms',
    'sockettimeoutms', 'ssl', 'sslmode', 'tls', 'tlsallowinvalidcertificates', 'tlsinsecure', 'w'];
  blanks constant text :=
    '[\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]';
  host constant text := '([A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\])(:[0-9]{1,5})?';
  scheme text := substring(clear from '^([A-Za-z][A-Za-z0-9+.-]*)://');
  rest text;
  authority text;
  user_info text;
  path text;
  query text;
  options text;
  name text;
  part text;
begin
  if clear is null then return null; end if;
  if scheme is null then return '***'; end if;
  if length(clear) > 16384 then return scheme || '://***'; end if;
  rest := substr(clear, length(scheme) + 4);
  authority := substring(rest from '^[^/?#]*');
  path := substring(substr(rest, length(authority) + 1) from '^[^?]*');
  query := substr(rest, length(authority) + length(path) + 2);
  if position('@' in authority) > 0 then
    user_info := substring(authority from '^(.*)@[^@]*$');
    authority := substr(authority, length(user_info) + 2);
  end if;
  if clear ~ blanks or strpos(user_info, '@') > 0
     or authority !~ ('^' || host || '(,' || host || ')*$')
     or path ~ '[@#&=;:,]' or query like '%#%' then
    return scheme || '://***';
  end if;
  foreach part in array string_to_array(query, '&') loop
    name := lower(substring(part from '^([A-Za-z][A-Za-z0-9_.-]{0,63})=') collate "C");
    if name = any (harmless) and part ~ '^[^=]+=[A-Za-z0-9_.,:%$+/-]*$'
       or name = 'appname' and part ~ '^[^=]+=@[A-Za-z0-9_.-]+@$' then
      options := concat_ws('&', options, part);
    elsif part like '%@%' then
      return scheme || '://***';
    elsif name is not null then
      options := concat_ws('&', options, split_part(part, '=', 1) || '=***');
    elsif part <> '' then
      options := concat_ws('&', options, '***');
    end if;
  end loop;
  return scheme || '://'
    || coalesce(split_part(user_info, ':', 1)
                || case when strpos(user_info, ':') > 0 then ':***' else '' end || '@', '')
    || authority || path
    || case when position('?' in rest) > 0 then '?' || coalesce(options, '') else '' end;
end $f$;

create or replace function platform.percent_encode(clear text)
returns text language sql immutable set search_path = pg_catalog, pg_temp as $f$
  select coalesce(string_agg(
    case when c ~ '^[A-Za-z0-9_.~-]$' then c
         else regexp_replace(upper(encode(convert_to(c, 'UTF8'), 'hex')), '(..)', '%\1', 'g') end,
    '' order by i), '')
  from regexp_split_to_table(clear, '') with ordinality as characters (c, i)
  where clear is not null
$f$;

create or replace function platform.build_connection_string(
  type text, username text, password text, host text, port integer, database text)
returns text language sql immutable set search_path = pg_catalog, pg_temp as $f$
  select type || '://'
    || coalesce(case when coalesce(username, '') = '' and coalesce(password, '') = '' then ''
         else platform.percent_encode(coalesce(username, ''))
           || coalesce(':' || nullif(platform.percent_encode(password), ''), '') || '@' end, '')
    || case when host like '%:%' then '[' || host || ']' else host end
    || coalesce(':' || port, '') || coalesce('/' || nullif(platform.percent_encode(database), ''), '')
$f$;

-- Takes a new connection string, leaves ciphertext and mask. See docs/adr/0001.
create or replace function platform.encrypt_database_connection_string()
returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
declare
  clear text;
  parts_changed boolean;
begin
  if tg_op = 'INSERT' then
    perform set_config('platform.sealed', '', true);
    if new.connection_string_encrypted is not null and new.connection_string like '%***%' then
      new.password := case when new.password is not null then '***' end;
      return new;  -- a restore brings ciphertext and mask
    end if;
    if new.connection_string like '%***%'
       or (new.connection_string is null and new.password = '***') then
      raise exception using errcode = '22023',
        message = 'the connection string or password holds a masked part: give the whole one';
    elsif new.connection_string is null and new.connection_string_encrypted is not null then
      raise exception using errcode = '22023',
        message = 'a ciphertext comes with its mask: give connection_string, too';
    elsif new.connection_string is null and new.host is null and new.password is not null then
      raise exception using errcode = '22023',
        message = 'a password without a host or a connection string cannot be kept';
    end if;
    clear := coalesce(new.connection_string, platform.build_connection_string(
      new.type, new.username, new.password, new.host, new.port, new.database));
    new.connection_string_encrypted := null;
  else
    if new.connection_string_encrypted is distinct from old.connection_string_encrypted then
      raise exception using errcode = '22023',
        message = 'connection_string_encrypted follows the connection string: change that';
    end if;
    parts_changed := (new.host, new.port, new.database, new.username, new.password)
      is distinct from (old.host, old.port, old.database, old.username, old.password);
    if new.connection_string is null then
      new.connection_string_encrypted := null;
      if old.connection_string is not null and (new.host is null or not parts_changed) then
        new.password := nullif(new.password, '***');
      end if;
      if new.host is null and new.password <> '***' then
        raise exception using errcode = '22023',
          message = 'a password without a host or a connection string cannot be kept';
      elsif parts_changed and new.password = '***' then
        raise exception using errcode = '22023',
          message = 'the password holds a masked part: give the whole one';
      elsif parts_changed then
        clear := platform.build_connection_string(
          new.type, new.username, new.password, new.host, new.port, new.database);
      end if;
    elsif new.connection_string is distinct from old.connection_string then
      if new.connection_string like '%***%' then
        raise exception using errcode = '22023',
          message = 'the connection string holds a masked part: give the whole one';
      end if;
      clear := new.connection_string;
    elsif parts_changed then
      raise exception using errcode = '22023', message =
        'host, port, database, username and password follow the connection string: change that';
    elsif new.project_id is distinct from old.project_id then
      clear := platform.try_open_connection_string(
        old.project_id, old.connection_string_encrypted);
      if clear is null and old.connection_string_encrypted is not null then
        raise exception using errcode = '22023', message =
          'the stored connection string does not decrypt: give a new one to move the database';
      end if;
    end if;
    if clear is not null and new.project_id is not distinct from old.project_id
       and clear = platform.try_open_connection_string(
         old.project_id, old.connection_string_encrypted) then
      new.connection_string := platform.mask_connection_string(clear);
      clear := null;  -- the same secret keeps its ciphertext: nothing was edited
    end if;
  end if;
  if clear is not null then
    new.connection_string_encrypted := platform.seal_connection_string(new.project_id, clear);
    if new.connection_string_encrypted is null and new.project_id is not null then
      raise exception 'platform.database_salts is empty: restore it, or apply 006 again';
    end if;
    new.connection_string := platform.mask_connection_string(clear);
    if tg_op = 'INSERT' then
      -- An upsert reaches the update triggers with `excluded` masked: this is what it masked.
      perform set_config('platform.sealed', array[new.connection_string, new.project_id::text,
        encode(new.connection_string_encrypted, 'hex'), new.id::text,
        (new.password is not null)::text]::text, true);
    end if;
  end if;
  new.password := case when new.password is not null then '***' end;
  return new;
end $f$;

create or replace function platform.decrypt_database_connection_string(database_id uuid)
returns text language sql stable security definer set search_path = pg_catalog, pg_temp as $f$
  select platform.open_connection_string(project_id, connection_string_encrypted)
  from platform.databases where id = database_id
$f$;

create or replace function platform.touch_database_updated_at()
returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $f$
begin
  new.updated_at := now();
  return new;
end $f$;

create or replace trigger encrypt_database_connection_string_trigger
  before insert or update of connection_string, connection_string_encrypted, project_id, type,
    host, port, database, username, password on platform.databases
  for each row execute function platform.encrypt_database_connection_string();

-- In an upsert, `excluded` holds what the insert trigger has masked. Where connection_string is set
-- from it, the clear text is put back for the encrypt trigger, which fires later: names decide the
-- order. A password that is set alone would be lost, so it is refused.
create or replace function platform.take_upserted_secret()
returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
declare
  sealed text[] := nullif(current_setting('platform.sealed', true), '')::text[];
  clear text;
begin
  -- Not what another row of the same statement (MERGE, WITH) has inserted.
  if sealed is null or (sealed[4]::uuid <> old.id
      and exists (select from platform.databases d where d.id = sealed[4]::uuid)) then
    return new;
  elsif tg_argv[0] = 'password' and new.password = '***' and sealed[5]::boolean then
    raise exception using errcode = '22023', message =
      'the password is part of the connection string: set connection_string = excluded.connection_string';
  elsif tg_argv[0] = 'connection_string' and sealed[1] = new.connection_string then
    clear := platform.try_open_connection_string(sealed[2]::uuid, decode(sealed[3], 'hex'));
    new.connection_string := coalesce(clear, new.connection_string);
    if new.connection_string_encrypted = decode(sealed[3], 'hex') then
      new.connection_string_encrypted := old.connection_string_encrypted;
    end if;
    perform set_config('platform.sealed', '', true);
  end if;
  return new;
end $f$;

create or replace trigger a_upserted_connection_string_trigger
  before update of connection_string on platform.databases
  for each row execute function platform.take_upserted_secret('connection_string');
create or replace trigger b_upserted_password_trigger
  before update of password on platform.databases
  for each row execute function platform.take_upserted_secret('password');

-- What an insert leaves for its own upsert must not reach a later statement.
create or replace function platform.forget_sealed_connection_string()
returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $f$
begin
  perform set_config('platform.sealed', '', true);
  return null;
end $f$;

create or replace trigger forget_sealed_connection_string_trigger
  after insert on platform.databases
  for each statement execute function platform.forget_sealed_connection_string();

-- A health write is not an edit: it names none of these columns.
create or replace trigger update_databases_updated_at
  before update of project_id, name, type, host, port, database, username, password,
    connection_string, connection_string_encrypted, ssl_enabled, config, metadata, status
  on platform.databases
  for each row execute function platform.touch_database_updated_at();

-- update_database_health() for many: an UPDATE for each would cost five times as much. Returns how
-- many it wrote.
create or replace function platform.update_databases_health(
  database_ids uuid[], new_statuses text[], new_errors text[], checked_at timestamptz[])
returns integer language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
declare
  written integer;
begin
  if exists (select from unnest(new_statuses) as given (status) where status is null
      or status not in ('unknown', 'healthy', 'degraded', 'unhealthy')) then
    raise exception using errcode = '22023', message =
      'health status is none of unknown, healthy, degraded, unhealthy';
  end if;
  -- A stored time in the future means that the clock was set back: it must not freeze the row.
  update platform.databases d
  set health_check_status = given.status,
      health_check_error = given.error,
      last_health_check_at = least(given.checked_at, now())
  from unnest(database_ids, new_statuses, new_errors, update_databases_health.checked_at)
    as given (database_id, status, error, checked_at)
  where d.id = given.database_id
    and (d.last_health_check_at is null or d.last_health_check_at > now()
         or d.last_health_check_at < given.checked_at);
  get diagnostics written = row_count;
  return written;
end $f$;

create or replace function platform.update_database_health(
  database_id uuid, new_status text, new_error text, checked_at timestamptz)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
begin
  return platform.update_databases_health(
      array[database_id], array[new_status], array[new_error], array[checked_at]) > 0
    or exists (select from platform.databases d where d.id = database_id);
end $f$;

create or replace function platform.update_database_health(
  database_id uuid, new_status text, new_error text default null)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp as $f$
begin
  if new_status is null or new_status not in ('unknown', 'healthy', 'degraded', 'unhealthy') then
    raise exception using errcode = '22023', message =
      'health status is none of unknown, healthy, degraded, unhealthy';
  end if;
  update platform.databases d
  set health_check_status = new_status,
      health_check_error = new_error,
      last_health_check_at = now()
  where d.id = database_id;
  return found;
end $f$;

-- The interval that a worker last used for a row: nothing until 007 fills it.
do $$
begin
  if to_regclass('platform.database_intervals') is null then
    create view platform.database_intervals as
    select null::uuid as database_id, null::double precision as interval_seconds where false;
  end if;
end $$;

-- Built-in functions alone: whoever reads a view needs the right to call what it calls. A host or
-- database that may be a pasted URL is not shown.
create or replace view platform.databases_safe as
select d.id, d.project_id, d.name, d.type,
  case when d.host !~ '[@/?#=;&[:space:]]' then d.host end as host, d.port,
  case when d.database !~ '[@/?#=;&[:space:]]' then d.database end as database, d.ssl_enabled,
  (select coalesce(jsonb_object_agg(key, value), '{}')
   from jsonb_each(case when jsonb_typeof(d.config) = 'object' then d.config else '{}' end)
   where key in ('authSource', 'minPoolSize', 'maxPoolSize', 'db', 'serverSelectionTimeoutMS',
     'connectTimeoutMS', 'socketTimeoutMS', 'retryWrites', 'directConnection', 'replicaSet',
     'connectTimeout', 'commandTimeout')
     and jsonb_typeof(value) in ('string', 'number', 'boolean')) as config,
  (select coalesce(jsonb_object_agg(key, value), '{}')
   from jsonb_each(case when jsonb_typeof(d.metadata) = 'object' then d.metadata else '{}' end)
   where key in ('provider', 'environment', 'network', 'region')
     and jsonb_typeof(value) in ('string', 'number', 'boolean')) as metadata,
  d.status, d.health_check_status, d.last_health_check_at, d.health_check_error,
  coalesce(d.last_health_check_at > now() - interval '1 minute' - make_interval(secs =>
    2 * coalesce(i.interval_seconds,
      case when jsonb_typeof(d.config #> '{healthCheck,intervalSeconds}') = 'number'
        then least(greatest((d.config #>> '{healthCheck,intervalSeconds}')::numeric, 5), 86400)
        else 60 end::double precision)), false) as health_check_is_current,
  d.created_at, d.updated_at
from platform.databases d left join platform.database_intervals i on i.database_id = d.id;

create or replace view platform.databases_with_connection_strings as
select d.id, d.project_id, d.name, d.type, d.host, d.port, d.database, d.username,
  platform.try_open_connection_string(d.project_id, d.connection_string_encrypted)
    as connection_string,
  d.ssl_enabled, d.config, d.metadata, d.status, d.health_check_status, d.last_health_check_at,
  d.health_check_error, d.created_at, d.updated_at
from platform.databases d;

create or replace function platform.get_project_databases(project uuid, database_type text default null)
returns setof platform.databases_safe
language sql stable security definer set search_path = pg_catalog, pg_temp as $f$
  select * from platform.databases_safe
  where project_id = project and (database_type is null or type = database_type)
  order by name
$f$;

revoke all on function
  platform.seal_connection_string(uuid, text),
  platform.open_connection_string(uuid, bytea),
  platform.try_open_salted(uuid, bytea, bytea),
  platform.try_open_connection_string(uuid, bytea),
  platform.mask_connection_string(text),
  platform.percent_encode(text),
  platform.build_connection_string(text, text, text, text, integer, text),
  platform.encrypt_database_connection_string(),
  platform.take_upserted_secret(),
  platform.forget_sealed_connection_string(),
  platform.touch_database_updated_at(),
  platform.decrypt_database_connection_string(uuid),
  platform.get_project_databases(uuid, text),
  platform.update_database_health(uuid, text, text),
  platform.update_database_health(uuid, text, text, timestamptz),
  platform.update_databases_health(uuid[], text[], text[], timestamptz[])
  from public;
grant usage on schema platform to public;
grant select on platform.databases_safe to public;
grant select on platform.databases_with_connection_strings to platform_databases_reader;
grant execute on function platform.decrypt_database_connection_string(uuid),
  platform.try_open_connection_string(uuid, bytea), platform.get_project_databases(uuid, text)
  to platform_databases_reader;

-- In a registry of an early build that index has no id. To replace it bars every reader for a moment:
-- whoever is reading just now is not made to wait, nor those who come behind.
do $$ begin
  if (select i.indnatts = 1 from pg_index i
      where i.indexrelid = to_regclass('platform.idx_databases_status')) then
    create index idx_databases_status_id on platform.databases (status, id);
    lock table platform.databases in access exclusive mode nowait;
    drop index platform.idx_databases_status;
    alter index platform.idx_databases_status_id rename to idx_databases_status;
  end if;
exception when lock_not_available then
  raise warning 'idx_databases_status is as it was: the table is in use; apply the files again';
end $$;
COMMIT;
