// SPDX-License-Identifier: Apache-2.0

// Stargz-snapshotter as a program, from its published Go module: the module
// holds the snapshotter's service whole, but not the main package of
// containerd-stargz-grpc, which is this one's model in what it can be told.
// What the peer does is all in the module; here is only the socket.
//
//	stargz-grpc --root DIR --address SOCKET [--config FILE.toml]
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/service"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/grpc"
)

func configRead(path string) (*service.Config, error) {
	config := &service.Config{}
	if path == "" {
		return config, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := toml.NewDecoder(file).DisallowUnknownFields()
	return config, decoder.Decode(config)
}

func serve(root, address, configPath string) error {
	config, err := configRead(configPath)
	if err != nil {
		return fmt.Errorf("%s: %w", configPath, err)
	}
	snapshotter, err := service.NewStargzSnapshotterService(
		context.Background(), root, config)
	if err != nil {
		return err
	}
	defer snapshotter.Close()
	listener, err := net.Listen("unix", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server,
		snapshotservice.FromSnapshotter(snapshotter))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		server.Stop()
	}()
	return server.Serve(listener)
}

func main() {
	root := flag.String("root", "", "folder of the snapshots")
	address := flag.String("address", "", "socket to serve on")
	config := flag.String("config", "", "configuration (TOML)")
	flag.Parse()
	if *root == "" || *address == "" || flag.NArg() != 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := serve(*root, *address, *config); err != nil {
		fmt.Fprintln(os.Stderr, "stargz-grpc:", err)
		os.Exit(1)
	}
}
