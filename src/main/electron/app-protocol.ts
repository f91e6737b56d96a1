// `app://vitrine/…`: the built page, from its folder and from nowhere else, under a content security policy. An origin of its own,
// so that the front can tell our page from every other.
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { protocol } from 'electron';
import { fileFor } from '../front/static-files.ts';

export const SCHEME = 'app';
export const ORIGIN = 'app://vitrine';
export const PAGE = `${ORIGIN}/index.html`;

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.woff2': 'font/woff2',
};

/**
 * What the page may load and reach: itself, pictures that it made, and the front. Styles are inline where the console's terminal makes
 * its own; scripts never are.
 * @param front `ws://127.0.0.1:PORT`
 */
export function contentSecurityPolicy(front: string): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "font-src 'self'",
    "img-src 'self' blob:",
    `connect-src ${front}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

/** To be called before the app is ready. */
export function registerScheme(): void {
  protocol.registerSchemesAsPrivileged([{ scheme: SCHEME, privileges: { standard: true, secure: true, supportFetchAPI: true } }]);
}

/** Serves `folder` (absolute, without a slash at its end). */
export function serveApp(folder: string, front: string): void {
  const headers = {
    'content-security-policy': contentSecurityPolicy(front),
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
  };
  protocol.handle(SCHEME, async (request) => {
    const { host, pathname } = new URL(request.url);
    const path = host === 'vitrine' && request.method === 'GET' ? fileFor(folder, pathname) : null;
    if (path === null) return new Response('Not found', { status: 404, headers });
    try {
      const body = await readFile(path);
      return new Response(body, { headers: { ...headers, 'content-type': types[extname(path)] ?? 'application/octet-stream' } });
    } catch {
      return new Response('Not found', { status: 404, headers });
    }
  });
}
