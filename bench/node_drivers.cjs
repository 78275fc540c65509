// One driver of Node's asking one server, measured in a process of its own: connect, ping, close.
// Reads its order as JSON from stdin, prints the figures as JSON on stdout (see subject.py).
'use strict';
const AT_ONCE = 20;
const WARM_UP = 50;

function way(order) {
  if (order.engine === 'redis') {
    const { createClient } = require('redis');
    return async () => {
      const client = createClient({ url: order.url });
      await client.connect();
      await client.ping();
      await client.close();
    };
  }
  if (order.engine === 'mongodb') {
    const { MongoClient } = require('mongodb');
    return async () => {
      const client = new MongoClient(order.url);
      await client.connect();
      await client.db('admin').command({ ping: 1 });
      await client.close();
    };
  }
  const { Client } = require('pg');
  return async () => {
    const client = new Client({ connectionString: order.url });
    await client.connect();
    await client.query('SELECT 1');
    await client.end();
  };
}

async function round(ask, checks) {
  let left = checks;
  const oneAfterTheOther = async () => {
    while (left-- > 0) await ask();
  };
  const cpu = process.cpuUsage();
  const wall = process.hrtime.bigint();
  await Promise.all(Array.from({ length: AT_ONCE }, oneAfterTheOther));
  const spent = process.cpuUsage(cpu);
  const elapsed = Number(process.hrtime.bigint() - wall) / 1000;
  return [(spent.user + spent.system) / checks, elapsed / checks];
}

async function main() {
  const order = JSON.parse(require('fs').readFileSync(0, 'utf8'));
  const ask = way(order);
  await round(ask, WARM_UP);
  const rounds = [];
  for (let i = 0; i < order.rounds; i++) rounds.push(await round(ask, order.checks));
  console.log(JSON.stringify(rounds));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
