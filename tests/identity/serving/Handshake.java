import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.spec.PKCS8EncodedKeySpec;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** Reads a credential directory as Java software does, and shakes hands with 127.0.0.1. */
public class Handshake {
    public static void main(String[] arguments) throws Exception {
        Path directory = Path.of(arguments[0]);
        char[] password = arguments[2].toCharArray();
        var encoded = Files.readAllBytes(directory.resolve("private_key.der"));
        KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(encoded));
        var keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(KeyStore.getInstance(directory.resolve("keystore.p12").toFile(), password), password);
        var trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(KeyStore.getInstance(directory.resolve("truststore.p12").toFile(), password));
        var context = SSLContext.getInstance("TLSv1.3");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        int port = Integer.parseInt(arguments[1]);
        try (var socket = (SSLSocket) context.getSocketFactory().createSocket("127.0.0.1", port)) {
            socket.startHandshake();
            System.out.println(socket.getSession().getProtocol());
            var input = new InputStreamReader(socket.getInputStream());
            System.out.println(new BufferedReader(input).readLine());
        }
    }
}
