// One connection of the wire server: turns bytes into messages, and handles start-up and password.

import { createHash, timingSafeEqual } from 'node:crypto';
import { ProtocolError, errorMessage, int32, message, splitCstring } from './messages.mjs';
import { setConfig } from './settings.mjs';

const MAX_MESSAGE_BYTES = 256 * 1024 * 1024; // bounds the memory of one message
const MAX_STARTUP_BYTES = 10_000; // PostgreSQL's limit
const SSL = 80877103, GSS = 80877104, CANCEL = 80877102;
const PASSWORD = process.env.BBBMETER_EMBEDDED_PASSWORD;

/** Subclasses add `welcome()`, `take(message)` and `lost()`. */
export class Connection {
  phase = 'startup'; // startup, password, ready, closed
  settings = ''; // SQL that restores what this client has set, see settings.mjs
  chunks = []; // received bytes that are not yet split into messages
  received = 0;
  needed = 4;

  constructor(socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.receive(chunk));
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.lost());
  }

  send(...messages) {
    if (this.socket.writable) this.socket.write(Buffer.concat(messages));
  }

  /** Ends the connection with an error. */
  fatal(code, text) {
    this.phase = 'closed';
    if (this.socket.writable) this.socket.end(errorMessage('FATAL', code, text));
    this.lost();
  }

  /** Reassembles messages; concatenates only when one is complete, so large ones stay cheap. */
  receive(chunk) {
    this.chunks.push(chunk);
    this.received += chunk.length;
    if (this.received < this.needed || this.phase === 'closed') return;
    let buffer = Buffer.concat(this.chunks);
    try {
      while (this.phase !== 'closed') {
        const typed = this.phase === 'startup' ? 0 : 1; // a startup packet has no type byte
        this.needed = typed + 4;
        if (buffer.length < this.needed) break;
        const length = buffer.readInt32BE(typed);
        if (length < 4 || length > (typed ? MAX_MESSAGE_BYTES : MAX_STARTUP_BYTES)) {
          throw new ProtocolError(`${length} is not a valid message length`);
        }
        this.needed = typed + length;
        if (buffer.length < this.needed) break;
        const whole = buffer.subarray(0, this.needed);
        buffer = buffer.subarray(this.needed);
        if (!typed) this.startup(whole);
        else if (this.phase === 'password') this.password(whole);
        else this.take(whole);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.fatal('08P01', error.message);
    }
    this.chunks = [buffer];
    this.received = buffer.length;
  }

  /** Handles the first packet: encryption and cancelling are refused, a login is accepted. */
  startup(packet) {
    const code = packet.length >= 8 ? packet.readInt32BE(4) : 0;
    if (code === SSL || code === GSS) return void this.send(Buffer.from('N'));
    if (code === CANCEL) {
      this.phase = 'closed';
      return void this.socket.end();
    }
    if (code >> 16 !== 3) {
      throw new ProtocolError('unsupported frontend protocol: only version 3 is supported');
    }
    const params = {};
    for (let at = 8; packet[at];) {
      const [name, middle] = splitCstring(packet, at);
      const [value, end] = splitCstring(packet, middle);
      params[name] = value;
      at = end;
    }
    const { user = 'postgres', options = '', ...given } = params;
    const ignored = ['database', 'replication', 'client_encoding', 'application_name'];
    for (const name of ignored) delete given[name];
    for (const [, name, value] of options.matchAll(/(?:-c\s*|--)([\w.-]+)=((?:\\.|\S)*)/g)) {
      given[name.replaceAll('-', '_')] = value.replace(/\\(.)/g, '$1');
    }
    const wanted = Object.entries(given);
    if (user !== 'postgres') wanted.push(['role', user]);
    this.settings = setConfig(wanted);
    if (!PASSWORD) return void this.welcome();
    this.phase = 'password';
    return void this.send(message('R', int32(3)));
  }

  password(packet) {
    const digest = (bytes) => createHash('sha256').update(bytes).digest(); // equal lengths
    const given = packet.subarray(5, packet.length - 1);
    if (packet[0] === 0x70 && timingSafeEqual(digest(given), digest(PASSWORD))) this.welcome();
    else this.fatal('28P01', 'password authentication failed');
  }
}
