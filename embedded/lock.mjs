// One server per data directory: the lock file, which also tells clients where the server is.

import fs from 'node:fs';
import path from 'node:path';

let lockFile = null;

/** When a process started, in ticks since boot: tells a process from a later one with its pid. */
export function startedAt(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop().split(' ')[19];
  } catch {
    return null; // not Linux, or gone
  }
}

export function alive({ pid, started = null }) {
  if (!pid) return false; // stopped in good order
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (error.code === 'ESRCH') return false;
  }
  return started === null || startedAt(pid) === started;
}

function readLock(file) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

export let publish = () => {}; // writes the address into the lock file
export let formerPort = 0; // where this directory was served last: clients look there again

/** Takes the directory or ends the process with code 3. A dead process's lock is taken over. */
export function lock(dir) {
  const file = path.join(dir, 'bbbmeter-engine.json');
  const mine = { pid: process.pid, started: startedAt(process.pid), dir, host: null, port: null };
  // The lock file of a copied directory names the original.
  const served = (held) => held && held.dir === dir && alive(held);
  const giveWay = () => {
    console.error(`${dir} is served by another process`);
    process.exit(3);
  };
  for (;;) {
    try {
      fs.writeFileSync(file, JSON.stringify(mine), { flag: 'wx' });
      lockFile = file;
      publish = (more) => {
        Object.assign(mine, more);
        fs.writeFileSync(`${file}.new`, JSON.stringify(mine));
        fs.renameSync(`${file}.new`, file); // readers see all of it or nothing
      };
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const held = readLock(file);
    if (held?.dir === dir) formerPort = held.port ?? 0;
    const young = Date.now() - (fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0) < 2000;
    if (served(held) || (!held && young)) giveWay(); // no text yet: it is being written
    // Of several that find it stale only one moves this very file; a fresh one is put back.
    const aside = `${file}.${process.pid}`;
    try {
      fs.renameSync(file, aside);
    } catch {
      continue;
    }
    if (served(readLock(aside))) {
      fs.renameSync(aside, file);
      giveWay();
    }
    fs.rmSync(aside);
  }
}

export function unlock() {
  if (lockFile && readLock(lockFile)?.pid === process.pid) publish({ pid: 0 }); // keeps the port
}

/** Ends the process after an error that it cannot live with. */
export function die(text) {
  fs.writeSync(2, `${text}\n`); // synchronous: the process ends here
  unlock();
  process.exit(1);
}
