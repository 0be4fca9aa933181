import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.util.Base64;
import java.util.HashMap;
import java.util.Hashtable;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.jms.Connection;
import javax.jms.Destination;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.Session;
import javax.naming.Context;
import javax.naming.InitialContext;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.apache.qpid.jms.JmsConnectionFactory;

/**
 * A consumer as a stranger would write it, with qpid-jms: connects by a failover URI, receives, acknowledges, prints.
 *
 * <p>Every message is printed as one line of JSON. By itself it uses AUTO_ACKNOWLEDGE; with {@code --acknowledge-every N} it
 * uses CLIENT_ACKNOWLEDGE and acknowledges each N messages at once. Ends with status 0 when the wanted number of messages has
 * been acknowledged and the connection closed, and with 1 when anything goes wrong that failover can't mend.
 */
public final class Receiver {
    private final Map<String, String> options;
    private final int wanted;
    /** 0 for AUTO_ACKNOWLEDGE. */
    private final int acknowledgeEvery;
    private final CompletableFuture<Void> done = new CompletableFuture<>();
    /** Touched by the session's thread alone. */
    private int received;

    private Receiver(Map<String, String> options) {
        this.options = options;
        wanted = Integer.parseInt(options.get("count"));
        acknowledgeEvery = Integer.parseInt(options.getOrDefault("acknowledge-every", "0"));
    }

    public static void main(String[] arguments) {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            options.put(arguments[i].replaceFirst("^--", ""), arguments[i + 1]);
        }
        try {
            new Receiver(options).run();
        } catch (Exception error) {
            System.err.println(error + (error.getCause() == null ? "" : ": " + error.getCause()));
            System.exit(1);
        }
    }

    private void run() throws Exception {
        String timestamp = Long.toString(System.currentTimeMillis());
        String user = options.get("client-id")
                + "|authMode=aksign,signMethod=hmacmd5,timestamp=" + timestamp
                + ",authId=" + options.get("access-key")
                + ",iotInstanceId=" + options.getOrDefault("instance", "")
                + ",consumerGroupId=" + options.get("group") + "|";
        String password = sign("authId=" + options.get("access-key") + "&timestamp=" + timestamp);

        Hashtable<String, String> environment = new Hashtable<>();
        environment.put(Context.INITIAL_CONTEXT_FACTORY, "org.apache.qpid.jms.jndi.JmsInitialContextFactory");
        environment.put("connectionfactory.platform", "failover:(amqps://" + options.get("host") + ":" + options.get("port")
                + "?amqp.idleTimeout=80000)?failover.reconnectDelay=30");
        environment.put("queue.messages", "default");
        Context context = new InitialContext(environment);
        JmsConnectionFactory factory = (JmsConnectionFactory) context.lookup("platform");
        factory.setSslContext(trusting(Path.of(options.get("ca"))));
        Destination queue = (Destination) context.lookup("messages");

        Connection connection = factory.createConnection(user, password);
        connection.setExceptionListener(done::completeExceptionally);
        Session session = connection.createSession(
                false, acknowledgeEvery == 0 ? Session.AUTO_ACKNOWLEDGE : Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(queue);
        consumer.setMessageListener(this::onMessage);
        connection.start();
        done.get();
        // Waits for the listener, so that its last message is acknowledged.
        session.close();
        connection.close();
    }

    private void onMessage(Message message) {
        if (received == wanted) {
            return;
        }
        try {
            byte[] body = message.getBody(byte[].class);
            System.out.println("{\"messageId\":" + json(message.getObjectProperty("messageId"))
                    + ",\"topic\":" + json(message.getObjectProperty("topic"))
                    + ",\"generateTime\":" + json(message.getObjectProperty("generateTime"))
                    + ",\"payload\":\"" + Base64.getEncoder().encodeToString(body == null ? new byte[0] : body) + "\"}");
            received++;
            if (acknowledgeEvery > 0 && (received % acknowledgeEvery == 0 || received == wanted)) {
                message.acknowledge();
            }
            if (received == wanted) {
                done.complete(null);
            }
        } catch (JMSException error) {
            done.completeExceptionally(error);
        }
    }

    /** The password as the platform's documents describe it, with HMAC-MD5. Written without a look at any other signing here. */
    private String sign(String text) throws Exception {
        Mac mac = Mac.getInstance("HmacMD5");
        mac.init(new SecretKeySpec(options.get("secret").getBytes(StandardCharsets.UTF_8), "HmacMD5"));
        return Base64.getEncoder().encodeToString(mac.doFinal(text.getBytes(StandardCharsets.UTF_8)));
    }

    private static SSLContext trusting(Path authority) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (InputStream pem = Files.newInputStream(authority)) {
            Certificate certificate = CertificateFactory.getInstance("X.509").generateCertificate(pem);
            trusted.setCertificateEntry("authority", certificate);
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }

    private static String json(Object value) {
        if (value == null || value instanceof Number) {
            return String.valueOf(value);
        }
        return '"' + value.toString().replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
