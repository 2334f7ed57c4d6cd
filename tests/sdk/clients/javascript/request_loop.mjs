// The loop of both JavaScript clients: one request per line on stdin, one JSON line per response on stdout
// (see ../request_loop.py).
import { createInterface } from "node:readline";
import { inspect } from "node:util";

export async function handleRequests(handlers) {
  for await (const line of createInterface({ input: process.stdin })) {
    // The text that Node.js prints for an uncaught error.
    const response = await handlers[line.trim()]().catch((error) => ({ error: inspect(error) }));
    console.log(JSON.stringify(response));
  }
}
