// One life of the official Node.js client; values compared.
// usage: node life.js PORT ROWS, where @iotdb/client is installed

"use strict";

const assert = require("node:assert");
const { Session, TreeTablet, TSDataType } = require("@iotdb/client");

const [port, rows] = process.argv.slice(2).map(Number);
const SG = "root.node";
const NAMES = ["b", "i", "l", "f", "d", "t"];
const TYPES = ["BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE", "TEXT"];
// whole numbers of 53 bits: more is a BigInt in some releases and a number in others
const CELLS = [
  [true, -(2 ** 31), Number.MIN_SAFE_INTEGER, 1.5, -Number.MAX_VALUE, "\u00fcn\u00efc\u00f6d\u00e9 \u6d4b\u8bd5"],
  [null, 2 ** 31 - 1, null, -0.5, 0.1, null],
  [false, null, Number.MAX_SAFE_INTEGER, 2 ** -100, -1e-300, ""],
];

const text = (cell) => (cell === null || cell === undefined ? "null" : String(cell));

function session(more = {}) {
  const login = { host: "127.0.0.1", port, username: "root", password: "root", timezone: "UTC" };
  return new Session({ ...login, fetchSize: 700, ...more });
}

async function found(from, sql) {
  const data = await from.executeQueryStatement(sql);
  const all = [];
  while (await data.hasNext()) {
    const row = data.next();
    all.push([row.getTimestamp(), ...row.getFields()].map(text));
  }
  await data.close();
  return all;
}

async function step(name, run) {
  await run();
  console.log(`STEP ${name}: ok`);
}

async function main() {
  await step("wrong password", () =>
    assert.rejects(session({ password: "no" }).open(), /Authentication failed/));

  const client = session();
  await client.open();
  await step("schema", async () => {
    await client.executeNonQueryStatement(`CREATE DATABASE ${SG}`);
    for (const [n, name] of NAMES.entries())
      await client.executeNonQueryStatement(
        `CREATE TIMESERIES ${SG}.d.${name} WITH DATATYPE=${TYPES[n]}`);
    assert.strictEqual((await found(client, `SHOW TIMESERIES ${SG}.**`)).length, NAMES.length);
  });

  await step("tablet with nulls", async () => {
    const tablet = new TreeTablet(`${SG}.d`, NAMES, TYPES.map((name) => TSDataType[name]));
    CELLS.forEach((cells, n) => tablet.addRow(n + 1, cells));
    await client.insertTablet(tablet);
    assert.deepStrictEqual(
      await found(client, `SELECT ${NAMES.join(", ")} FROM ${SG}.d`),
      CELLS.map((cells, n) => [n + 1, ...cells].map(text)));
  });

  await step("SQL", async () => {
    await client.executeNonQueryStatement(`INSERT INTO ${SG}.sql(time, s) VALUES (5, 2.5)`);
    assert.deepStrictEqual(await found(client, `SELECT s, s FROM ${SG}.sql`), [["5", "2.5", "2.5"]]);
    const counts = await found(client, `SELECT count(i), max_value(i) FROM ${SG}.d`);
    assert.deepStrictEqual(counts[0].slice(-2), ["2", String(2 ** 31 - 1)]);
    assert.deepStrictEqual(await found(client, `SELECT s FROM ${SG}.sql WHERE time > 5`), []);
    await assert.rejects(client.executeQueryStatement("selec"), /mismatched input 'selec'/);
  });

  await step("pages", async () => {
    const tablet = new TreeTablet(`${SG}.many`, ["n"], [TSDataType.INT32]);
    for (let n = 0; n < rows; n++) tablet.addRow(n, [n]);
    await client.insertTablet(tablet);
    const all = await found(client, `SELECT n FROM ${SG}.many`);
    assert.deepStrictEqual(all, Array.from({ length: rows }, (_, n) => [String(n), String(n)]));
  });

  await step("deletion", async () => {
    await client.executeNonQueryStatement(`DELETE FROM ${SG}.many.* WHERE time < 10`);
    const left = await found(client, `SELECT count(n) FROM ${SG}.many`);
    assert.strictEqual(left[0].at(-1), String(rows - 10));
    await client.executeNonQueryStatement(`DELETE DATABASE ${SG}`);
    assert.deepStrictEqual(await found(client, `SHOW DEVICES ${SG}.**`), []);
  });
  await client.close();
  console.log("STEP end: ok");
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
