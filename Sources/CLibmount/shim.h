/* libmount: mount tables, mount options, unmounting of trees. */
#pragma once
#include <libmount.h>
