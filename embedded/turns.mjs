// Gives turns to clients: they share one backend session, each for whole transactions.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkpoint, execute, session } from './backend.mjs';
import { die } from './lock.mjs';
import { ProtocolError, SYNC, errorMessage, query, ready } from './messages.mjs';
import { BASE_SQL } from './settings.mjs';

// A client that is idle in a transaction for longer is ended, but only while others wait.
const IDLE_IN_TRANSACTION_MS = 60_000;

const waiting = new Set(); // clients with work, first come first served
let holder = null; // the client with an open transaction
let busy = false;
let stopping = false;

/** Requests a turn for a client that has put a job into its queue. */
export function request(client) {
  if (client !== holder) waiting.add(client);
  pump();
}

/** Gives turns until no client has a job, or until the holder must send its next message. */
async function pump() {
  if (busy) return;
  busy = true;
  while (!stopping) {
    const client = holder ?? waiting.values().next().value;
    const job = client?.queue.shift();
    waiting.delete(client);
    if (!job) {
      if (holder || !client) break;
      continue;
    }
    try {
      await job.run();
      if (!client.holds()) await checkpoint();
    } catch (error) {
      await survive(client, job, error);
    }
    holder = client.holds() ? client : null;
    if (!holder && client.queue.length) waiting.add(client);
    client.done(job);
    await nextTurn(); // let sockets be read and written between two batches
  }
  busy = false;
}

/** Handles an exception in a job: continues if the engine still answers, else ends the process. */
async function survive(client, job, error) {
  if (error instanceof ProtocolError) { // raised before the engine got anything
    client.fatal('08P01', error.message);
    return;
  }
  const dead = error instanceof WebAssembly.RuntimeError || error instanceof RangeError
    || error.name === 'ExitStatus';
  try {
    if (dead) throw error;
    await execute(Buffer.concat([SYNC, query('ROLLBACK')]));
    await execute(query(BASE_SQL));
  } catch {
    die(`engine died: ${error.name}: ${error.message}`);
  }
  session.settings = '';
  client.status = 'I';
  client.open = false;
  console.error(`engine error: ${error.name}: ${error.message}`);
  if (job.end === 'H') client.fatal('XX000', `engine error: ${error.message}`);
  else client.send(errorMessage('ERROR', 'XX000', `engine error: ${error.message}`), ready('I'));
}

/** Ends a client that is idle in a transaction while others wait. */
export function endIdleTransaction() {
  if (!holder || !waiting.size || holder.queue.length) return;
  if (Date.now() - holder.lastActive < IDLE_IN_TRANSACTION_MS) return;
  holder.fatal('25P03', 'idle in transaction while other clients wait for the embedded engine');
}

/** Stops giving turns; returns when the running job has ended and is rolled back if still open. */
export async function stopTurns() {
  stopping = true;
  while (busy) await nextTurn();
  if (holder) await execute(Buffer.concat([SYNC, query('ROLLBACK')]));
}
