// One server per data directory: the lock file, in which clients also find the server's address.

import fs from 'node:fs';
import path from 'node:path';

let lockFile = null;

/**
 * Returns when a process started, in ticks since boot. It distinguishes the process from a later
 * one with the same pid.
 */
export function startedAt(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop().split(' ')[19];
  } catch {
    return null; // not Linux, or gone
  }
}

export function alive({ pid, started = null }) {
  if (!pid) return false; // it was stopped cleanly
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
export let formerPort = 0; // this directory's last port: clients look there again

/** Locks the directory, or ends the process with code 3. A dead process's lock is taken over. */
export function lock(dir) {
  const file = path.join(dir, 'bbbmeter-engine.json');
  const mine = { pid: process.pid, started: startedAt(process.pid), dir, host: null, port: null };
  // The lock file of a copied directory names the original.
  const served = (held) => held && held.dir === dir && alive(held);
  const giveWay = () => {
    console.error(`another process already serves ${dir}`);
    process.exit(3);
  };
  for (;;) {
    try {
      fs.writeFileSync(file, JSON.stringify(mine), { flag: 'wx' });
      lockFile = file;
      publish = (more) => {
        Object.assign(mine, more);
        fs.writeFileSync(`${file}.new`, JSON.stringify(mine));
        fs.renameSync(`${file}.new`, file); // readers see the whole old or the whole new file
      };
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const held = readLock(file);
    if (held?.dir === dir) formerPort = held.port ?? 0;
    const young = Date.now() - (fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0) < 2000;
    if (served(held) || (!held && young)) giveWay(); // empty: another process is writing it
    // If several processes find the lock stale, only one moves this file. If the moved file is a
    // new lock, it is put back.
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

/** Ends the process after a fatal error. */
export function die(text) {
  fs.writeSync(2, `${text}\n`); // synchronous: the process ends here
  unlock();
  process.exit(1);
}
