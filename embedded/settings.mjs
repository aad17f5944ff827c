// SQL that reads and restores a session's settings.

import { literal } from './messages.mjs';

// PGlite starts PostgreSQL with unusual command-line settings (search_path = pg_catalog, seqscan
// off), and RESET ALL returns to those. These are the defaults that a client should see instead.
const BASE = {
  search_path: '"$user", public', TimeZone: 'UTC', enable_seqscan: 'on',
  client_min_messages: 'notice', log_min_messages: 'warning',
};

/** Returns the expressions of a SELECT that sets settings, given as pairs [name, value]. */
export const setConfig = (pairs) =>
  pairs.map(([name, value]) => `set_config(${literal(name)},${literal(value)},false)`).join(',');
/** Restores a session to its state at the start. */
export const BASE_SQL = 'SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; '
  + `SELECT ${setConfig(Object.entries(BASE))}`;
const BASE_VALUES = Object.entries(BASE)
  .map(([name, value]) => `(${literal(name)},${literal(value)})`).join(',');
// RESET restores PGlite's own defaults: this sets ours where the client has set nothing.
export const REPAIR_SQL = `SELECT set_config(n, v, false)
  FROM pg_settings JOIN (VALUES ${BASE_VALUES}) b(n, v) ON name = n WHERE source <> 'session'`;
// Returns SQL that restores a client's settings. The role comes last, as it may lack the right to
// set the others.
export const CAPTURE_SQL = `SELECT string_agg(format('set_config(%L,%L,false)', name, setting), ','
    ORDER BY o, name)
  FROM (SELECT 0 AS o, name, setting FROM pg_settings WHERE source = 'session'
        UNION ALL SELECT 1, 'session_authorization', session_user WHERE session_user <> 'postgres'
        UNION ALL SELECT 2, 'role', current_setting('role')
        WHERE current_setting('role') <> 'none') s
  WHERE NOT EXISTS (SELECT FROM (VALUES ${BASE_VALUES}) b(n, v) WHERE n = name AND v = setting)`;
