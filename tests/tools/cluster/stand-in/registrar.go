// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrar is what kubelet finds behind the socket in its folder of plugins.
type registrar struct {
	registration.UnimplementedRegistrationServer
	name, endpoint string
	refused        chan<- error
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	klog.InfoS("kubelet asks for the plugin", "name", r.name, "endpoint", r.endpoint)
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              r.name,
		Endpoint:          r.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r *registrar) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if status.PluginRegistered {
		klog.InfoS("kubelet registered the plugin", "name", r.name)
	} else {
		// Ending is the only way to make kubelet try again.
		r.refused <- fmt.Errorf("kubelet did not register %s: %s", r.name, status.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func register(arguments []string) error {
	var options common
	var endpoint, folder string
	var timeout time.Duration
	flags := flag.NewFlagSet("node-driver-registrar", flag.ContinueOnError)
	options.register(flags)
	flags.StringVar(&endpoint, "kubelet-registration-path", "", "the driver's socket as kubelet sees it")
	flags.StringVar(&folder, "plugin-registration-path", "/registration", "kubelet's folder of plugins as seen here")
	flags.DurationVar(&timeout, "timeout", time.Second, "how long the driver may take to answer")
	if err := options.parse(flags, arguments); err != nil {
		return err
	}
	if endpoint == "" {
		return errors.New("--kubelet-registration-path is needed")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	connected, name, err := options.driver(ctx, timeout)
	if err != nil {
		return err
	}
	// The driver's name was all that was asked of it.
	connected.Close()

	path := filepath.Join(folder, name+"-reg.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the socket of an earlier run: %w", err)
	}
	// Whoever may connect may make kubelet talk to a driver: only root may.
	before := syscall.Umask(0o077)
	listener, err := net.Listen("unix", path)
	syscall.Umask(before)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	ended := make(chan error, 3)
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, &registrar{name: name, endpoint: endpoint, refused: ended})
	go func() { ended <- server.Serve(listener) }()
	if options.endpoint != "" {
		go func() {
			ended <- serveHealth(options.endpoint, func(context.Context) error {
				_, err := os.Stat(path)
				return err
			})
		}()
	}
	klog.InfoS("waiting for kubelet", "socket", path)
	select {
	case <-ctx.Done():
		klog.InfoS("told to end")
	case err = <-ended:
	}
	server.Stop()
	if removed := os.Remove(path); removed != nil && !errors.Is(removed, os.ErrNotExist) {
		klog.ErrorS(removed, "cannot remove the socket")
	}
	return err
}
