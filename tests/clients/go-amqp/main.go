// A consumer as a stranger would write it, with Azure/go-amqp: connects, receives, accepts, prints, and connects again
// when the connection is lost.
//
// Every message is printed as one line of JSON. Ends with status 0 when the wanted number of messages has been accepted and
// the connection closed, and with 1 and one line on standard error when it can't connect any more.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/Azure/go-amqp"
)

var (
	host           = flag.String("host", "", "host of the platform")
	port           = flag.Int("port", 5671, "port of the platform")
	authority      = flag.String("ca", "", "PEM file of the authority to trust")
	group          = flag.String("group", "", "consumer group")
	count          = flag.Int("count", 0, "how many messages to accept before leaving")
	clientID       = flag.String("client-id", "", "ID of this client")
	instance       = flag.String("instance", "", "ID of the instance")
	accessKey      = flag.String("access-key", "", "ID of the AccessKey")
	secret         = flag.String("secret", "", "secret of the AccessKey")
	reconnectAfter = flag.Int("reconnect-after", 0, "close after so many messages, and go on with another connection")
)

const (
	firstPause = 10 * time.Millisecond
	lastPause  = 20 * time.Second
	// Attempts in a row that bring no message before it gives up.
	attempts = 8
)

// credentials makes userName and password as the platform's documents describe them, with HMAC-SHA1 under the name that the
// vendor's Go sample gives it. Written without a look at any other signing here, on purpose.
func credentials(now time.Time) (string, string) {
	signed := fmt.Sprintf("authId=%s&timestamp=%d", *accessKey, now.UnixMilli())
	mac := hmac.New(sha1.New, []byte(*secret))
	mac.Write([]byte(signed))
	user := fmt.Sprintf("%s|authMode=aksign,signMethod=Hmacsha1,consumerGroupId=%s,authId=%s,iotInstanceId=%s,timestamp=%d|",
		*clientID, *group, *accessKey, *instance, now.UnixMilli())
	return user, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// line is what is printed of a message.
type line struct {
	MessageID    any    `json:"messageId"`
	Topic        any    `json:"topic"`
	GenerateTime any    `json:"generateTime"`
	Payload      []byte `json:"payload"`
}

// receive connects and accepts messages, wanted at most, and closes. It returns how many it accepted.
func receive(ctx context.Context, roots *x509.CertPool, wanted int) (accepted int, err error) {
	user, password := credentials(time.Now())
	connection, err := amqp.Dial(ctx, fmt.Sprintf("amqps://%s:%d", *host, *port), &amqp.ConnOptions{
		SASLType:  amqp.SASLTypePlain(user, password),
		TLSConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	session, err := connection.NewSession(ctx, nil)
	if err != nil {
		return 0, err
	}
	receiver, err := session.NewReceiver(ctx, "/queue-name", &amqp.ReceiverOptions{Credit: 20})
	if err != nil {
		return 0, err
	}
	for accepted < wanted {
		message, err := receiver.Receive(ctx, nil)
		if err != nil {
			return accepted, err
		}
		properties := message.ApplicationProperties
		printed, err := json.Marshal(line{
			properties["messageId"], properties["topic"], properties["generateTime"], message.GetData(),
		})
		if err != nil {
			return accepted, err
		}
		fmt.Println(string(printed))
		if err := receiver.AcceptMessage(ctx, message); err != nil {
			return accepted, err
		}
		accepted++
	}
	return accepted, receiver.Close(ctx)
}

func run() error {
	pem, err := os.ReadFile(*authority)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", *authority)
	}
	ctx := context.Background()
	total, failed, pause := 0, 0, firstPause
	for total < *count {
		wanted := *count - total
		if total < *reconnectAfter {
			wanted = *reconnectAfter - total
		}
		accepted, err := receive(ctx, roots, wanted)
		total += accepted
		if accepted > 0 {
			failed, pause = 0, firstPause
		}
		if err == nil {
			continue
		}
		fmt.Fprintln(os.Stderr, err)
		if failed++; failed == attempts {
			return fmt.Errorf("gave up after %d attempts: %w", attempts, err)
		}
		time.Sleep(pause)
		pause = min(2*pause, lastPause)
	}
	return nil
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
