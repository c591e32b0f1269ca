/* libsystemd: sd-bus, sd-event, sd-daemon, sd-journal and sd-id128. */
#pragma once
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <systemd/sd-id128.h>
