// A client with AWS SDK for JavaScript v3. One STS client caches credentials, as in an application.
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { handleRequests } from "./request_loop.mjs";

const sts = new STSClient({});

await handleRequests({
  async get() {
    const { accessKeyId, secretAccessKey, sessionToken } = await sts.config.credentials();
    return { accessKeyId, secretAccessKey, sessionToken };
  },
  async whoami() {
    const { Arn } = await sts.send(new GetCallerIdentityCommand({}));
    return { arn: Arn };
  },
});
