import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Supplier;
import java.util.stream.Collectors;

/** The loop of both Java clients: one question per line, one JSON line per answer (see ../answering.py). */
final class Answering {
  private Answering() {}

  /** Answers until stdin ends. */
  static void loop(Map<String, Supplier<Map<String, String>>> questions) {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    try {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        System.out.println(json(answer(questions.get(line.trim()))));
      }
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /** Complete credentials. */
  static Map<String, String> set(String accessKeyId, String secretAccessKey, String sessionToken) {
    Map<String, String> told = new LinkedHashMap<>();
    told.put("accessKeyId", accessKeyId);
    told.put("secretAccessKey", secretAccessKey);
    told.put("sessionToken", sessionToken);
    return told;
  }

  private static Map<String, String> answer(Supplier<Map<String, String>> question) {
    try {
      return question.get();
    } catch (RuntimeException error) {
      // The text that Java prints for an uncaught exception.
      StringWriter trace = new StringWriter();
      error.printStackTrace(new PrintWriter(trace));
      return Map.of("error", trace.toString());
    }
  }

  private static String json(Map<String, String> told) {
    return told.entrySet().stream()
        .map(entry -> quoted(entry.getKey()) + ": " + quoted(entry.getValue()))
        .collect(Collectors.joining(", ", "{", "}"));
  }

  private static String quoted(String text) {
    return text.chars()
        .mapToObj(c -> c < ' ' || c == '"' || c == '\\' ? String.format("\\u%04x", c) : Character.toString((char) c))
        .collect(Collectors.joining("", "\"", "\""));
  }
}
