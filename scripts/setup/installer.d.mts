// Types of installer.mjs, which is plain JavaScript because it runs before `npm ci`.

export function installerPaths(): { kernel: string; initrd: string };
export function installerPrepared(): boolean;
export function prepareInstaller(): Promise<void>;
