import java.util.Map;
import software.amazon.awssdk.auth.credentials.AwsSessionCredentials;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.services.sts.StsClient;

/** A client with AWS SDK for Java v2: one provider, which keeps its credentials, as in an application. */
final class V2 {
  private static final DefaultCredentialsProvider PROVIDER = DefaultCredentialsProvider.builder().build();

  public static void main(String[] arguments) {
    Answering.loop(Map.of("get", V2::get, "whoami", V2::whoami));
  }

  private static Map<String, String> get() {
    AwsSessionCredentials set = (AwsSessionCredentials) PROVIDER.resolveCredentials();
    return Answering.set(set.accessKeyId(), set.secretAccessKey(), set.sessionToken());
  }

  private static Map<String, String> whoami() {
    try (StsClient sts = StsClient.builder().credentialsProvider(PROVIDER).build()) {
      return Map.of("arn", sts.getCallerIdentity().arn());
    }
  }
}
