import java.util.Map;
import software.amazon.awssdk.auth.credentials.AwsSessionCredentials;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.services.sts.StsClient;

/** A client with AWS SDK for Java v2. It has one provider, which caches credentials, as in an application. */
final class V2 {
  private static final DefaultCredentialsProvider PROVIDER = DefaultCredentialsProvider.builder().build();

  public static void main(String[] arguments) {
    RequestLoop.loop(Map.of("get", V2::get, "whoami", V2::whoami));
  }

  private static Map<String, String> get() {
    AwsSessionCredentials found = (AwsSessionCredentials) PROVIDER.resolveCredentials();
    return RequestLoop.credentials(found.accessKeyId(), found.secretAccessKey(), found.sessionToken());
  }

  private static Map<String, String> whoami() {
    try (StsClient sts = StsClient.builder().credentialsProvider(PROVIDER).build()) {
      return Map.of("arn", sts.getCallerIdentity().arn());
    }
  }
}
