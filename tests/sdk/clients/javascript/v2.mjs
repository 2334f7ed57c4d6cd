// A client with AWS SDK for JavaScript v2. The global configuration caches credentials, as in an application.
import { promisify } from "node:util";
import AWS from "aws-sdk";
import { handleRequests } from "./request_loop.mjs";

const getCredentials = promisify(AWS.config.getCredentials.bind(AWS.config));

await handleRequests({
  async get() {
    await getCredentials();
    const { accessKeyId, secretAccessKey, sessionToken } = AWS.config.credentials;
    return { accessKeyId, secretAccessKey, sessionToken };
  },
  async whoami() {
    // v2 does not read the variable automatically.
    const sts = new AWS.STS({ endpoint: process.env.AWS_ENDPOINT_URL_STS });
    const { Arn } = await sts.getCallerIdentity().promise();
    return { arn: Arn };
  },
});
