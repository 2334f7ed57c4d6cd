// The loop of both JavaScript clients: a question a line on stdin, an answer a line of JSON on stdout
// (see ../answering.py).
import { createInterface } from "node:readline";
import { inspect } from "node:util";

export async function answerQuestions(questions) {
  for await (const line of createInterface({ input: process.stdin })) {
    // What Node.js prints of an error that nobody caught.
    const answer = await questions[line.trim()]().catch((error) => ({ error: inspect(error) }));
    console.log(JSON.stringify(answer));
  }
}
