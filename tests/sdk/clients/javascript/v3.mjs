// A client with AWS SDK for JavaScript v3: one client, which keeps its credentials, as in an application.
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { answerQuestions } from "./answering.mjs";

const sts = new STSClient({});

await answerQuestions({
  async get() {
    const { accessKeyId, secretAccessKey, sessionToken } = await sts.config.credentials();
    return { accessKeyId, secretAccessKey, sessionToken };
  },
  async whoami() {
    const { Arn } = await sts.send(new GetCallerIdentityCommand({}));
    return { arn: Arn };
  },
});
