// The parts of tests/bench that must cost as little as can be: the provider, the callers, and the proxy to compare with.
//
//	peers provider ADDRESS [CERT KEY]          a constant answer; recomputes the signature of every 32nd request
//	peers proxy ADDRESS UPSTREAM [CA]          httputil.ReverseProxy that signs
//	peers callers ADDRESS N SECONDS BODY       N callers in a closed loop; what they saw, as JSON
package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const token, secret = "bench-token", "bench-secret"

func signature(method, target string, body []byte, moment string) string {
	var compact bytes.Buffer
	if json.Compact(&compact, body) != nil {
		compact.Reset()
		compact.Write(body)
	}
	digest := sha256.Sum256(compact.Bytes())
	seal := hmac.New(sha512.New, []byte(secret))
	fmt.Fprintf(seal, "%s:%s:%s:%s:%s", method, target, token, hex.EncodeToString(digest[:]), moment)
	return base64.StdEncoding.EncodeToString(seal.Sum(nil))
}

func provider(args []string) {
	var count, opened atomic.Int64
	answer := bytes.Repeat([]byte("a"), 1024)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1.0/access-token/b2b", func(out http.ResponseWriter, in *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(out, `{"responseCode":"2007300","accessToken":%q,"tokenType":"Bearer","expiresIn":"86400"}`, token)
	})
	mux.HandleFunc("/opened", func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, opened.Load()) })
	mux.HandleFunc("/", func(out http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		if count.Add(1)%32 == 1 && in.URL.Path != "/direct" {
			right := signature(in.Method, in.RequestURI, body, in.Header.Get("X-Timestamp"))
			if in.Header.Get("X-Signature") != right || in.Header.Get("Authorization") != "Bearer "+token {
				http.Error(out, "not signed", http.StatusUnauthorized)
				return
			}
		}
		out.Header().Set("Content-Type", "application/json")
		out.Write(answer)
	})
	server := &http.Server{Addr: args[0], Handler: mux, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}}
	if len(args) == 3 {
		log.Fatal(server.ListenAndServeTLS(args[1], args[2]))
	}
	log.Fatal(server.ListenAndServe())
}

func proxy(args []string) {
	upstream, err := url.Parse(args[1])
	if err != nil {
		log.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, DisableCompression: true}
	if len(args) == 3 {
		text, err := os.ReadFile(args[2])
		if err != nil {
			log.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	signer := &httputil.ReverseProxy{Transport: transport, Rewrite: func(request *httputil.ProxyRequest) {
		request.SetURL(upstream)
		body, _ := io.ReadAll(request.In.Body)
		var compact bytes.Buffer
		if json.Compact(&compact, body) != nil {
			compact.Reset()
			compact.Write(body)
		}
		moment := time.Now().Format("2006-01-02T15:04:05.000-07:00")
		out := request.Out
		out.Body, out.ContentLength = io.NopCloser(&compact), int64(compact.Len())
		out.Header.Set("X-Timestamp", moment)
		out.Header.Set("X-Partner-Id", "bench")
		out.Header.Set("Authorization", "Bearer "+token)
		out.Header.Set("X-Signature", signature(out.Method, out.URL.RequestURI(), compact.Bytes(), moment))
	}}
	log.Fatal(http.ListenAndServe(args[0], signer))
}

type seen struct {
	Requests int     `json:"requests"`
	Errors   int     `json:"errors"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
}

// One caller; appends the seconds of each request.
func call(address string, request []byte, until time.Time) (spans []float64, errors int) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, 1
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for time.Now().Before(until) {
		begun := time.Now()
		if _, err := conn.Write(request); err != nil {
			return spans, errors + 1
		}
		answer, err := http.ReadResponse(reader, nil)
		if err != nil {
			return spans, errors + 1
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if err != nil || answer.StatusCode != 200 {
			errors++
		}
		spans = append(spans, time.Since(begun).Seconds())
	}
	return spans, errors
}

func callers(args []string) {
	number, _ := strconv.Atoi(args[1])
	seconds, _ := strconv.ParseFloat(args[2], 64)
	body, err := os.ReadFile(args[3])
	if err != nil {
		log.Fatal(err)
	}
	head := "POST /direct HTTP/1.1\r\nHost: " + args[0] + "\r\nContent-Type: application/json\r\nContent-Length: "
	if len(args) == 4 {
		head = "POST /v1.0/transfer HTTP/1.1\r\nHost: " + args[0] + "\r\nContent-Type: application/json\r\nContent-Length: "
	}
	request := append([]byte(head+strconv.Itoa(len(body))+"\r\n\r\n"), body...)
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var all []float64
	var result seen
	var lock sync.Mutex
	var group sync.WaitGroup
	for range number {
		group.Add(1)
		go func() {
			defer group.Done()
			spans, errors := call(args[0], request, until)
			lock.Lock()
			defer lock.Unlock()
			all, result.Errors = append(all, spans...), result.Errors+errors
		}()
	}
	group.Wait()
	sort.Float64s(all)
	if result.Requests = len(all); result.Requests > 0 {
		result.P50, result.P99 = all[len(all)/2]*1000, all[len(all)*99/100]*1000
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

func main() {
	roles := map[string]func([]string){"provider": provider, "proxy": proxy, "callers": callers}
	roles[os.Args[1]](os.Args[2:])
}
