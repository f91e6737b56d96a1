// What is used of @axe-core/playwright, so that the specs are checked where it is not installed.
declare module '@axe-core/playwright' {
  import type { Page } from '@playwright/test';

  export class AxeBuilder {
    constructor(options: { page: Page });
    setLegacyMode(legacy: boolean): this;
    analyze(): Promise<{ violations: { id: string; help: string; nodes: { html: string; failureSummary?: string }[] }[] }>;
  }
}
