/* libcap: names, drops and reports capabilities. */
#pragma once
#include <sys/capability.h>
