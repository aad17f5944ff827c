// Messages of the Postgres wire protocol, and the statements that PGlite must not get unchanged.

export const cstring = (text) => Buffer.from(`${text}\0`);
export function int32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}
export function message(type, ...parts) {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}
export const query = (sql) => message('Q', cstring(sql));
export const ready = (status) => message('Z', Buffer.from(status));
export const complete = (tag) => message('C', cstring(tag));
export const errorMessage = (severity, code, text) =>
  message('E', ...[`S${severity}`, `V${severity}`, `C${code}`, `M${text}`, ''].map(cstring));
export const SYNC = message('S');
export const BATCH_ENDS = 'QSHF'; // Query, Sync, Flush, FunctionCall: the client awaits an answer
export const KNOWN = 'QPBDECSHFdcfX';

export class ProtocolError extends Error {}

/** Splits `text\0rest`, with which many messages of the extended protocol begin. */
export function splitCstring(body, from = 0) {
  const end = body.indexOf(0, from);
  if (end < 0) throw new ProtocolError('unterminated string in message');
  return [body.toString('utf8', from, end), end + 1];
}

// After COPY ... FROM STDIN the engine reads until CopyDone. If CopyDone is not in the same buffer,
// the engine dies. So a plain COPY is answered here, and passed on with all of its data. A hidden
// one (behind a comment or another statement, or in Parse) becomes an error.
export const COPY_IN = /^\s*copy\b[^;]*\bfrom\s+stdin\b[^;]*;?\s*$/i;
const COPY_HIDDEN = /\bcopy\b[\s\S]*\bfrom\s+stdin\b/i;
// DISCARD ALL and DEALLOCATE ALL would remove the statements of all clients.
export const DROP_ALL = /^\s*(discard\s+all|deallocate\s+(?:prepare\s+)?all)\s*;?\s*$/i;
const DROP_HIDDEN = /\b(?:discard|deallocate|prepare)\s+all\b/i;
export const DROP_ONE = /^\s*deallocate\s+(?:prepare\s+)?(?:"([^"]+)"|(\w+))\s*;?\s*$/i;
/** Returns `sql`, or an error in its place if it would harm the engine or the other clients. */
export function harmless(sql) {
  let what;
  if (COPY_HIDDEN.test(sql)) what = 'COPY FROM STDIN';
  else if (DROP_HIDDEN.test(sql)) what = 'DISCARD or DEALLOCATE ALL';
  else return sql;
  return "DO $$BEGIN RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = "
    + `'the embedded engine supports ${what} only as a single statement in a simple query'; END$$`;
}

/** Returns the engine's answer to a COPY without CopyInResponse, which the client already has. */
export function withoutCopyIn(data) {
  const kept = [];
  for (let at = 0; at < data.length;) {
    const end = at + 1 + Buffer.from(data.buffer, data.byteOffset + at + 1, 4).readInt32BE(0);
    if (data[at] !== 0x47) kept.push(data.subarray(at, end));
    at = end;
  }
  return Buffer.concat(kept);
}

/** Returns a string as SQL that is valid with any value of standard_conforming_strings. */
export const literal = (text) => ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
