// SPDX-License-Identifier: Apache-2.0

//go:build tools

package chart

// Pinned in go.mod and built by scripts/helm.
import _ "helm.sh/helm/v4/cmd/helm"
