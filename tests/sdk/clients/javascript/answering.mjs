// The loop of both JavaScript clients: one question per line on stdin, one JSON line per answer on stdout
// (see ../answering.py).
import { createInterface } from "node:readline";
import { inspect } from "node:util";

export async function answerQuestions(questions) {
  for await (const line of createInterface({ input: process.stdin })) {
    // The text that Node.js prints for an uncaught error.
    const answer = await questions[line.trim()]().catch((error) => ({ error: inspect(error) }));
    console.log(JSON.stringify(answer));
  }
}
