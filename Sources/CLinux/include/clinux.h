/*
 * What Swift cannot reach by itself: system calls without a wrapper in the C library, macros, variadic functions,
 * and the few instructions that run between clone and exec. One file a kernel concern; every symbol begins with
 * clinux_. A function returns -1 and sets errno, or says otherwise.
 */
#pragma once
#include "clinux_caller.h"
#include "clinux_copy.h"
#include "clinux_descriptor.h"
#include "clinux_mount.h"
#include "clinux_files.h"
#include "clinux_guard.h"
#include "clinux_inet.h"
#include "clinux_namespace.h"
#include "clinux_network.h"
#include "clinux_notify.h"
#include "clinux_poll.h"
#include "clinux_process.h"
#include "clinux_route.h"
#include "clinux_signal.h"
#include "clinux_socket.h"
#include "clinux_spawn.h"
#include "clinux_stream.h"
#include "clinux_terminal.h"
#include "clinux_timer.h"
#include "clinux_trap.h"
