// SPDX-License-Identifier: Apache-2.0
module quicklayer/tests/lab/referrers

go 1.26

require github.com/google/go-containerregistry v0.22.1
