import com.amazonaws.auth.AWSSessionCredentials;
import com.amazonaws.auth.DefaultAWSCredentialsProviderChain;
import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.securitytoken.AWSSecurityTokenService;
import com.amazonaws.services.securitytoken.AWSSecurityTokenServiceClientBuilder;
import com.amazonaws.services.securitytoken.model.GetCallerIdentityRequest;
import java.util.Map;

/** A client with AWS SDK for Java v1. It has one provider chain, which caches credentials, as in an application. */
final class V1 {
  private static final DefaultAWSCredentialsProviderChain CHAIN = new DefaultAWSCredentialsProviderChain();

  public static void main(String[] arguments) {
    RequestLoop.loop(Map.of("get", V1::get, "whoami", V1::whoami));
  }

  private static Map<String, String> get() {
    AWSSessionCredentials found = (AWSSessionCredentials) CHAIN.getCredentials();
    return RequestLoop.credentials(found.getAWSAccessKeyId(), found.getAWSSecretKey(), found.getSessionToken());
  }

  private static Map<String, String> whoami() {
    // v1 does not read the variable automatically.
    EndpointConfiguration endpoint =
        new EndpointConfiguration(System.getenv("AWS_ENDPOINT_URL_STS"), System.getenv("AWS_REGION"));
    AWSSecurityTokenService sts =
        AWSSecurityTokenServiceClientBuilder.standard()
            .withCredentials(CHAIN)
            .withEndpointConfiguration(endpoint)
            .build();
    return Map.of("arn", sts.getCallerIdentity(new GetCallerIdentityRequest()).getArn());
  }
}
