// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools keeps the programs and files that the tests need in go.mod, where their versions are pinned.
// No build includes this file.
package tools

import (
	_ "github.com/container-storage-interface/spec/lib/go/csi"
	_ "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"
)
