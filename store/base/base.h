/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ground floor: what every other folder stands on, and what stands on
 * nothing but libc, OpenSSL's libcrypto and jansson.  Include this one header.
 */
#ifndef QL_BASE_H
#define QL_BASE_H

#include "store/base/buf.h"
#include "store/base/cleanup.h"
#include "store/base/cursor.h"
#include "store/base/digest.h"
#include "store/base/error.h"
#include "store/base/io.h"
#include "store/base/json.h"
#include "store/base/lockdir.h"
#include "store/base/log.h"
#include "store/base/net.h"
#include "store/base/process.h"
#include "store/base/stream.h"
#include "store/base/units.h"
#include "store/base/utf8.h"

#endif
