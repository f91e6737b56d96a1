// The built pages for the browser shell: files of one folder, with a content security policy that lets the page load nothing from
// elsewhere and be embedded nowhere. Everything in the folder is public; the token guards it so that a front tells nobody that it is one.
import { readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { extname, join, normalize, sep } from 'node:path';
import { addressOf, cookieName } from './guard.ts';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
};

/** @param host as the request's Host header has it, checked */
export function contentSecurityPolicy(host: string): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    `connect-src 'self' ws://${host}`,
    "img-src 'self' blob: data:",
    "font-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

export function securityHeaders(host: string): Record<string, string> {
  return {
    'content-security-policy': contentSecurityPolicy(host),
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'cache-control': 'no-store',
  };
}

/** The file of `folder` that an address's path names, or null when it would lie outside. */
export function fileFor(folder: string, pathname: string): string | null {
  let decoded: string;
  try {
    decoded = decodeURIComponent(pathname);
  } catch {
    return null;
  }
  if (decoded.includes('\0')) return null;
  const path = normalize(join(folder, decoded.endsWith('/') ? `${decoded}index.html` : decoded));
  return path.startsWith(folder.endsWith(sep) ? folder : folder + sep) ? path : null;
}

/** Answers a request that the guard has let pass. An address with the token leaves it with the browser as a cookie. */
export async function serveStatic(request: IncomingMessage, response: ServerResponse, folder: string | null, token: string, port: number): Promise<void> {
  const url = addressOf(request)!;
  const headers = securityHeaders(request.headers.host!);
  const say = (status: number, words: string) => {
    response.writeHead(status, { ...headers, 'content-type': 'text/plain; charset=utf-8' });
    response.end(`${words}\n`);
  };
  if (request.method !== 'GET' && request.method !== 'HEAD') return say(405, 'Only GET is known here.');
  if (folder === null) return say(404, 'This front serves no pages.');
  const path = fileFor(folder, url.pathname);
  let body: Buffer;
  try {
    if (path === null) throw new Error('outside');
    body = await readFile(path);
  } catch {
    const missing = url.pathname === '/' ? 'The pages are not built yet: run npm run build.' : 'There is no such page.';
    return say(404, missing);
  }
  if (url.searchParams.get('token') === token) headers['set-cookie'] = `${cookieName(port)}=${token}; HttpOnly; SameSite=Strict; Path=/`;
  response.writeHead(200, { ...headers, 'content-type': TYPES[extname(path!)] ?? 'application/octet-stream', 'content-length': body.length });
  response.end(request.method === 'HEAD' ? undefined : body);
}
