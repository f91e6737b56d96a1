// Who may talk to the front. It listens on 127.0.0.1, where every program of every user of this computer can connect, and every page
// that a browser shows can try to. So each request must show
//   a Host that is this computer      against DNS rebinding: a foreign name that suddenly means 127.0.0.1
//   no foreign Origin                 against other pages; programs that are no browsers send none
//   the token                         against everybody else: 256 random bits that only this user was shown
// The port in Host may be another one, so that `ssh -L` works; an Origin must then name the same.
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

/** Why a request is refused, as HTTP says it and in words. */
export interface Refusal {
  status: 400 | 401 | 403;
  words: string;
}

export interface GuardOptions {
  token: string;
  /** The port that the front listens on: part of the cookie's name, because cookies of one host are shared by all ports. */
  port: number;
  /** Origins besides the front's own: app://vitrine. */
  origins: readonly string[];
}

const LOCAL_HOST = /^(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?$/i;

/** Compares without telling by the time taken how much was right; digests, because the lengths may differ. */
function same(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

export function cookieName(port: number): string {
  return `vitrine-${port}`;
}

function cookie(request: IncomingMessage, name: string): string | null {
  for (const part of (request.headers.cookie ?? '').split(';')) {
    const [key, ...value] = part.trim().split('=');
    if (key === name) return value.join('=');
  }
  return null;
}

/** The token that a request shows: in its address, as a bearer, or in the cookie; an explicit one goes before the cookie. */
function shownToken(request: IncomingMessage, url: URL, port: number): string | null {
  const inAddress = url.searchParams.get('token');
  if (inAddress !== null && inAddress !== '') return inAddress;
  const bearer = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '');
  return bearer?.[1] ?? cookie(request, cookieName(port));
}

/** The request's address, or null when it has none that can be understood. */
export function addressOf(request: IncomingMessage): URL | null {
  try {
    return new URL(request.url ?? '', 'http://front');
  } catch {
    return null;
  }
}

/** Null when the request may pass. */
export function refuse(request: IncomingMessage, { token, port, origins }: GuardOptions): Refusal | null {
  const url = addressOf(request);
  if (url === null) return { status: 400, words: 'The address cannot be understood.' };
  const { host, origin } = request.headers;
  if (host === undefined || !LOCAL_HOST.test(host)) return { status: 403, words: 'The front is reached as 127.0.0.1 or localhost, by no other name.' };
  if (origin !== undefined && origin !== `http://${host}` && !origins.includes(origin)) {
    return { status: 403, words: 'Pages from elsewhere may not use the front.' };
  }
  const shown = shownToken(request, url, port);
  if (shown === null || shown === '') return { status: 401, words: 'A token is needed: open the whole address that "vitrine serve" printed.' };
  if (!same(shown, token)) return { status: 401, words: 'The token is wrong: it is another one each time Vitrine is started. Open the address that it printed last.' };
  return null;
}
