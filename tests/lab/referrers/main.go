// SPDX-License-Identifier: Apache-2.0

// A registry with the referrers API (OCI distribution-spec 1.1), which Debian's
// docker-registry 2.8 lacks: go-containerregistry's, which its authors test
// their clients with.  Manifests are kept in memory; requests are logged.
//
//	referrers --address HOST:PORT --blobs DIR
package main

import (
	"flag"
	"log"
	"net/http"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	address := flag.String("address", "127.0.0.1:5000", "where to listen")
	blobs := flag.String("blobs", "", "the folder of blobs")
	flag.Parse()
	if *blobs == "" {
		log.Fatal("--blobs is needed")
	}
	log.Fatal(http.ListenAndServe(*address, registry.New(
		registry.WithReferrersSupport(true),
		registry.WithBlobHandler(registry.NewDiskBlobHandler(*blobs)))))
}
