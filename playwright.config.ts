// The same specs in both shells: the project's name ('electron' or 'browser') tells the fixtures of e2e/fixtures.ts what to start.
// No retries: a test that passes only sometimes fails. One at a time: each starts an app and machines of its own.
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: 'e2e',
  testMatch: '**/*.spec.ts',
  outputDir: 'test-results/playwright',
  fullyParallel: false,
  workers: 1,
  retries: 0,
  forbidOnly: process.env.CI !== undefined,
  timeout: 120_000,
  expect: { timeout: 15_000 },
  reporter: process.env.VITRINE_PLAYWRIGHT_JSON === undefined ? [['list']] : [['list'], ['json', { outputFile: process.env.VITRINE_PLAYWRIGHT_JSON }]],
  projects: [{ name: 'electron' }, { name: 'browser' }],
});
