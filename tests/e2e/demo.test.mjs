// `dayfly demo`, the first thing that anyone runs: it needs nothing and ends well.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run } from './lib/dayfly.mjs';

test('every scene of the demo goes as promised', async () => {
  const demo = await run(['demo']);
  assert.equal(demo.code, 0, `${demo.stdout}\n${demo.stderr}`);
});
