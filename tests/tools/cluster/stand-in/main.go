// SPDX-License-Identifier: Apache-2.0

// The stand-in of the Quarry project for two sidecars that are not served as Go modules: node-driver-registrar and
// livenessprobe. It speaks the same published protocols, takes the same flags, and says in its log what it is. Which
// of the two it is follows from the name it is started under.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
)

// What both take.
type common struct {
	address  string
	endpoint string
	pprof    bool
	version  bool
}

func (c *common) register(flags *flag.FlagSet) {
	klog.InitFlags(flags)
	flags.StringVar(&c.address, "csi-address", "/run/csi/socket", "the driver's socket")
	flags.StringVar(&c.endpoint, "http-endpoint", "", "where to serve /healthz, as :9808")
	flags.BoolVar(&c.pprof, "enable-pprof", false, "taken and passed over")
	flags.BoolVar(&c.version, "version", false, "say what this is and end")
}

func main() {
	name := filepath.Base(os.Args[0])
	run, known := map[string]func([]string) error{
		"csi-node-driver-registrar": register,
		"livenessprobe":             probe,
	}[name]
	if !known {
		fmt.Fprintf(os.Stderr, "%s: start this program as csi-node-driver-registrar or as livenessprobe\n", name)
		os.Exit(2)
	}
	err := run(os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		klog.ErrorS(err, name+" failed")
	}
	klog.Flush()
	if err != nil {
		os.Exit(1)
	}
}

// parse reads the flags and says whose work this is.
func (c *common) parse(flags *flag.FlagSet, arguments []string) error {
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	words := "this is the stand-in of the Quarry project's lab, not the program of Kubernetes-CSI"
	if c.version {
		fmt.Println(flags.Name() + ": " + words)
		os.Exit(0)
	}
	klog.InfoS(words, "inThePlaceOf", flags.Name())
	return nil
}

// driver connects and asks for the driver's name until it answers.
func (c *common) driver(ctx context.Context, timeout time.Duration) (*grpc.ClientConn, string, error) {
	manager := metrics.NewCSIMetricsManager("")
	connected, err := connection.Connect(ctx, c.address, manager)
	if err != nil {
		return nil, "", fmt.Errorf("cannot connect to %s: %w", c.address, err)
	}
	for {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		name, err := rpc.GetDriverName(bounded, connected)
		cancel()
		if err == nil {
			klog.InfoS("the driver answers", "name", name, "address", c.address)
			return connected, name, nil
		}
		klog.ErrorS(err, "the driver does not answer yet", "address", c.address)
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// serveHealth answers GET /healthz with 200 or with 500 and the reason; it returns only when it cannot serve.
func serveHealth(endpoint string, check func(context.Context) error) error {
	handler := http.NewServeMux()
	handler.HandleFunc("/healthz", func(writer http.ResponseWriter, request *http.Request) {
		if err := check(request.Context()); err != nil {
			klog.ErrorS(err, "not healthy")
			http.Error(writer, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(writer, "ok")
	})
	server := &http.Server{Addr: endpoint, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return fmt.Errorf("cannot serve on %s: %w", endpoint, server.ListenAndServe())
}
