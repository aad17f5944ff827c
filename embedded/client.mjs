// One client of the wire server: collects its messages into batches, and runs them in its turn.

import { createHash, randomBytes } from 'node:crypto';
import { execute, session } from './backend.mjs';
import { Connection } from './connection.mjs';
import {
  BATCH_ENDS, COPY_IN, DROP_ALL, DROP_ONE, KNOWN, ProtocolError, SYNC, complete, cstring, harmless,
  int32, message, query, ready, splitCstring, withoutCopyIn,
} from './messages.mjs';
import { BASE_SQL, CAPTURE_SQL, REPAIR_SQL } from './settings.mjs';
import { request } from './turns.mjs';

// Bounds one batch: the engine cannot use more than 2 GiB of memory.
const MAX_BATCH_BYTES = 256 * 1024 * 1024;
// Nothing is read from a client while more than this is queued.
const PAUSE_BYTES = 32 * 1024 * 1024;

export const clients = new Set();
let nextId = 1;

export class Client extends Connection {
  id = nextId++;
  left = false;
  status = 'I'; // of the last ReadyForQuery: I idle, T in a transaction, E in a failed one
  open = false; // an implicit transaction is open: Bind or an error, then Flush, no Sync yet
  dirty = false; // the settings may have changed since they were captured
  sqlPrepared = false; // it used the SQL statement PREPARE
  statements = new Set(); // backend names of its prepared statements
  configStatements = new Set(); // backend names of statements that call set_config
  unnamed = null; // backend name of its unnamed statement
  unnamedCount = 0;
  stale = []; // former unnamed statements that must be closed
  batch = []; // messages since the last batch end
  batchBytes = 0;
  copying = false;
  queue = [];
  queuedBytes = 0;
  lastActive = Date.now();

  constructor(socket) {
    super(socket);
    clients.add(this);
  }

  /** Whether no other client may use the backend now. */
  holds() {
    return this.status !== 'I' || this.open;
  }

  /** Queues a job; `end` is the message type that asked for it. */
  enqueue(run, bytes = 0, end = 'S') {
    if (this.left) return;
    this.queue.push({ run, bytes, end });
    this.queuedBytes += bytes;
    if (this.queuedBytes > PAUSE_BYTES) this.socket.pause();
    request(this);
  }

  /** Called after each of its jobs. */
  done(job) {
    this.lastActive = Date.now();
    this.queuedBytes -= job.bytes;
    if (this.queuedBytes < PAUSE_BYTES) this.socket.resume();
  }

  /** The socket has closed. Complete batches are still run, as PostgreSQL does. */
  lost() {
    this.enqueue(() => this.leave());
  }

  welcome() {
    this.phase = 'ready';
    if (this.settings) this.enqueue(() => this.greet());
    else this.greet(); // it does not use the engine, so it does not wait for its turn
  }

  async greet() {
    if (this.settings) { // an unknown role or setting ends the connection, as in PostgreSQL
      const error = await this.adopt();
      if (error) {
        this.settings = '';
        return this.fatal('28000', error.message);
      }
      this.dirty = true; // read the settings back in their normal form
      await this.release();
    }
    const status = {
      server_version: '17.5', server_encoding: 'UTF8', client_encoding: 'UTF8', TimeZone: 'UTC',
      DateStyle: 'ISO, MDY', IntervalStyle: 'postgres', integer_datetimes: 'on', is_superuser: 'on',
      standard_conforming_strings: 'on', session_authorization: 'postgres', application_name: '',
    };
    this.send(
      message('R', int32(0)),
      ...Object.entries(status).map((pair) => message('S', ...pair.map(cstring))),
      message('K', int32(process.pid), randomBytes(4)), // the pid also shows which engine answers
      ready('I'),
    );
  }

  // ------------------------------------------------------------ taking messages

  take(whole) {
    const type = String.fromCharCode(whole[0]);
    if (!KNOWN.includes(type)) {
      throw new ProtocolError(`message type ${whole[0]} is not part of the PostgreSQL protocol`);
    }
    if (type === 'X') {
      this.phase = 'closed';
      return this.enqueue(async () => {
        await this.leave();
        this.socket.end();
      });
    }
    if (this.copying) return this.takeCopy(type, whole);
    if ('dcf'.includes(type)) return undefined; // the rest of a COPY that failed
    if (type === 'Q') {
      const [sql] = splitCstring(whole, 5);
      if (COPY_IN.test(sql)) {
        this.copying = true;
        this.push(whole);
        return this.send(message('G', Buffer.from([/\bbinary\b/i.test(sql) ? 1 : 0, 0, 0])));
      }
      const safe = DROP_ALL.test(sql) ? sql : harmless(sql); // drop() handles DROP_ALL
      this.push(safe === sql ? whole : query(safe));
    } else {
      this.push(whole);
    }
    if (BATCH_ENDS.includes(type)) this.finishBatch(type);
    return undefined;
  }

  takeCopy(type, whole) {
    if (type === 'H' || type === 'S') return; // ignored in copy mode, as in PostgreSQL
    if (!'dcf'.includes(type)) {
      throw new ProtocolError(`unexpected message ${type} during COPY FROM STDIN`);
    }
    this.push(whole);
    if (type === 'd') return;
    this.copying = false;
    this.finishBatch('copy');
  }

  push(whole) {
    this.batch.push(whole);
    this.batchBytes += whole.length;
    if (this.batchBytes > MAX_BATCH_BYTES) {
      throw new ProtocolError(`more than ${MAX_BATCH_BYTES} bytes at once: send smaller batches`);
    }
  }

  finishBatch(end) {
    const [batch, bytes] = [this.batch, this.batchBytes];
    this.batch = [];
    this.batchBytes = 0;
    this.enqueue(() => this.run(batch, end), bytes, end);
  }

  /**
   * Returns the statement's name in the backend. Portals keep their names: they end with the
   * transaction.
   */
  backendName(name) {
    if (!name) return this.unnamed ?? `c${this.id}:none`;
    const short = name.length < 48 ? name : createHash('sha1').update(name).digest('hex');
    return `c${this.id}:${short}`; // PostgreSQL truncates names to 63 bytes
  }

  /** Renames the statement in Parse, Bind, Describe and Close. */
  rename(whole) {
    const type = String.fromCharCode(whole[0]);
    if (type === 'P') {
      const [name, sqlAt] = splitCstring(whole, 5);
      const [sql, rest] = splitCstring(whole, sqlAt);
      if (!name) {
        // Each unnamed Parse gets a new name, because another client may run before its Bind.
        if (this.unnamed) this.stale.push(this.unnamed);
        this.unnamed = `c${this.id}#${++this.unnamedCount}`;
      }
      const mine = this.backendName(name);
      this.statements.add(mine);
      if (/set_config/i.test(sql)) this.configStatements.add(mine);
      return message('P', cstring(mine), cstring(harmless(sql)), whole.subarray(rest));
    }
    if (type === 'B') {
      const [, nameAt] = splitCstring(whole, 5);
      const [name, rest] = splitCstring(whole, nameAt);
      const mine = this.backendName(name);
      if (this.configStatements.has(mine)) this.dirty = true;
      return message('B', whole.subarray(5, nameAt), cstring(mine), whole.subarray(rest));
    }
    if ((type === 'D' || type === 'C') && whole[5] === 0x53) { // 'S': a statement, not a portal
      const [name] = splitCstring(whole, 6);
      return message(type, Buffer.from('S'), cstring(this.backendName(name)));
    }
    return whole;
  }

  // ------------------------------------------------------------ in turn, with the backend

  async run(batch, end) {
    if (!this.holds() && this.settings !== session.settings) {
      const error = await this.adopt();
      if (error) return this.fatal(error.code, error.message); // for example a dropped role
    }
    const simple = batch.find((whole) => whole[0] === 0x51);
    if (simple && await this.drop(splitCstring(simple, 5)[0])) return undefined;
    const bytes = Buffer.concat(batch.map((whole) => this.rename(whole)));
    if (simple && simple.includes('set_config')) this.dirty = true;
    const { messages, data, error } = await execute(bytes);
    // The data are copied, because PGlite reuses its buffer for the next batch.
    this.send(end === 'copy' ? withoutCopyIn(data) : Buffer.from(data));
    let resetAll = false;
    for (const { name, text, status } of messages) {
      if (name === 'readyForQuery') this.status = status;
      if (name !== 'commandComplete') continue;
      if (text === 'SET' || text === 'RESET' || text.startsWith('DISCARD')) this.dirty = true;
      if (text === 'PREPARE') this.sqlPrepared = true;
      resetAll = text === 'RESET';
    }
    if (end === 'H') {
      // Parse and Describe alone leave only an implicit transaction open. It is ended here, or a
      // client that prepares early and executes later (asyncpg's prepare) would block the others.
      const done = !error && batch.every((whole) => 'PDH'.includes(String.fromCharCode(whole[0])));
      if (!this.holds() && done) await execute(SYNC);
      else this.open = true;
    } else {
      this.open = false;
    }
    if (!error) {
      for (const whole of batch) { // forget the statements that the client closed
        if (whole[0] === 0x43 && whole[5] === 0x53) {
          const mine = this.backendName(splitCstring(whole, 6)[0]);
          this.statements.delete(mine);
          this.configStatements.delete(mine);
        }
      }
    }
    if (this.holds()) return undefined;
    // asyncpg's pool ends each use with RESET ALL. Then the settings are known without a query.
    return this.release(resetAll && /\breset\s+all\s*;?\s*\0$/i.test(simple ?? ''));
  }

  /** Applies this client's settings to the backend; returns the error if that fails. */
  async adopt() {
    const sql = this.settings ? `${BASE_SQL}; SELECT ${this.settings}` : BASE_SQL;
    const { error } = await execute(query(sql));
    if (error) await execute(query(BASE_SQL));
    session.settings = error ? '' : this.settings;
    return error;
  }

  /**
   * Called when the client's transaction is over: notes its settings and closes stale statements.
   * `wholly` says that it has just reset all its settings.
   */
  async release(wholly = false) {
    if (this.dirty) {
      this.dirty = false;
      if (wholly) {
        this.settings = '';
        await this.adopt();
      } else {
        await execute(query(REPAIR_SQL));
        const { messages } = await execute(query(CAPTURE_SQL));
        this.settings = messages.find((m) => m.name === 'dataRow')?.fields[0] ?? '';
        session.settings = this.settings;
      }
    }
    if (this.stale.length) await this.close(this.stale.splice(0));
  }

  /** Closes prepared statements; unknown names are ignored. */
  async close(names) {
    for (const name of names) {
      this.statements.delete(name);
      this.configStatements.delete(name);
    }
    const closes = names.map((name) => message('C', Buffer.from('S'), cstring(name)));
    if (closes.length) await execute(Buffer.concat([...closes, SYNC]));
  }

  /**
   * Runs DISCARD ALL and DEALLOCATE for this client's statements only. Returns false if `sql` is
   * another statement, or one that PostgreSQL itself must answer.
   */
  async drop(sql) {
    const all = DROP_ALL.exec(sql)?.[1];
    const one = DROP_ONE.exec(sql);
    const mine = one && this.backendName(one[1] ?? one[2].toLowerCase());
    const discard = /^discard/i.test(all ?? '');
    // PostgreSQL rejects these in a failed transaction, and DISCARD ALL in every transaction.
    if (this.status === 'E' || (discard && this.holds())) return false;
    if (!all && !this.statements.has(mine)) return false;
    await this.close(all ? [...this.statements] : [mine]);
    if (all) this.unnamed = null;
    if (discard) {
      this.settings = '';
      await this.adopt();
    }
    const tag = discard ? 'DISCARD ALL' : 'DEALLOCATE';
    this.send(complete(all && !discard ? `${tag} ALL` : tag), ready(this.status));
    return true;
  }

  /** Called at the end of the connection: rolls back, closes its statements, gives up its turn. */
  async leave() {
    if (this.left) return;
    this.left = true;
    this.phase = 'closed';
    this.queue = [];
    if (this.open) await execute(SYNC);
    if (this.holds()) await execute(query('ROLLBACK'));
    this.status = 'I';
    this.open = false;
    if (this.sqlPrepared) {
      const { messages } = await execute(query(
        "SELECT string_agg(format('DEALLOCATE %I', name), ';')"
        + ' FROM pg_prepared_statements WHERE from_sql',
      ));
      const sql = messages.find((m) => m.name === 'dataRow')?.fields[0];
      if (sql) await execute(query(sql));
    }
    await this.close([...this.statements]);
    if (this.dirty) session.settings = null; // unknown: the next client applies its settings
    clients.delete(this);
  }
}
