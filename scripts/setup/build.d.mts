/** Builds the app where out/ is older than its sources. */
export function buildApp(): Promise<void>;
