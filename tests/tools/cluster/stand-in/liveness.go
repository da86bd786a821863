// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/rpc"
)

// probe asks the driver's Probe whenever /healthz is asked.
func probe(arguments []string) error {
	var options common
	var port string
	var timeout time.Duration
	flags := flag.NewFlagSet("livenessprobe", flag.ContinueOnError)
	options.register(flags)
	flags.StringVar(&port, "health-port", "9808", "the port of /healthz where --http-endpoint is not given")
	flags.DurationVar(&timeout, "probe-timeout", time.Second, "how long the driver may take to answer")
	if err := options.parse(flags, arguments); err != nil {
		return err
	}
	if options.endpoint == "" {
		options.endpoint = net.JoinHostPort("0.0.0.0", port)
	}
	connected, _, err := options.driver(context.Background(), timeout)
	if err != nil {
		return err
	}
	defer connected.Close()
	return serveHealth(options.endpoint, func(ctx context.Context) error {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ready, err := rpc.Probe(bounded, connected)
		if err != nil {
			return fmt.Errorf("the driver's probe failed: %w", err)
		}
		if !ready {
			return errors.New("the driver is not ready")
		}
		return nil
	})
}
