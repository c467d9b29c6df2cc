/*
 * A PKCS#11 module in front of another one, for tests: it passes calls on, and fails, delays or hangs those that a control
 * file names. The file (environment: SHIM_CONTROL) has one line for each fault:
 *
 *     C_Encrypt 48 before 1 0 7        function, return value, before|after the real call, how often (-1: always),
 *                                      milliseconds to wait before it, a number of its own
 *     C_EncryptInit 0 logout 1 0 8     what somebody else does just before the call, which then goes on: closes all
 *                                      sessions (sessions), ends the login (logout), finalises the library (finalise)
 *
 * It is read again at each call, so that all processes and threads see a change at once; a fault with another number is
 * another fault. What is counted is counted for all processes together, by files next to the control file; so is how many
 * calls of one process waited at once (`.atonce.NUMBER.N`).
 */
#define CK_PTR *
#define CK_DECLARE_FUNCTION(returnType, name) returnType name
#define CK_DECLARE_FUNCTION_POINTER(returnType, name) returnType (*name)
#define CK_CALLBACK_FUNCTION(returnType, name) returnType (*name)
#ifndef NULL_PTR
#define NULL_PTR 0
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static CK_FUNCTION_LIST_PTR real;
static CK_FUNCTION_LIST list;
/* What was opened last: where somebody else's hand reaches for. */
static CK_SLOT_ID last_slot;
static CK_SESSION_HANDLE last_session;

/* Whether one of so many occurrences is left, and takes it. */
static int take(const char *path, long number, long count) {
  char mark[4096];
  for (long i = 0; i < count; i++) {
    snprintf(mark, sizeof mark, "%s.%ld.%ld", path, number, i);
    int file = open(mark, O_CREAT | O_EXCL, 0600);
    if (file < 0) continue;
    close(file);
    return 1;
  }
  return 0;
}

/* Waits, and notes how many do so at once. */
static void wait_ms(const char *path, long number, unsigned long ms) {
  static int waiting;
  char mark[4096];
  int now = __atomic_add_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
  snprintf(mark, sizeof mark, "%s.atonce.%ld.%d", path, number, now);
  int file = open(mark, O_CREAT, 0600);
  if (file >= 0) close(file);
  usleep(1000 * ms);
  __atomic_sub_fetch(&waiting, 1, __ATOMIC_SEQ_CST);
}

/* What somebody else does to the token, where the fault is one of those. */
static void meddle(const char *when) {
  if (strcmp(when, "sessions") == 0) real->C_CloseAllSessions(last_slot);
  else if (strcmp(when, "logout") == 0) real->C_Logout(last_session);
  else if (strcmp(when, "finalise") == 0) real->C_Finalize(NULL);
}

/* The fault of a call: 0 where there is none. */
static CK_RV fault(const char *name, int after) {
  const char *path = getenv("SHIM_CONTROL");
  FILE *file = path == NULL ? NULL : fopen(path, "r");
  char function[64], when[16];
  unsigned long code, wait;
  long count, number;
  CK_RV found = 0;
  if (file == NULL) return 0;
  while (fscanf(file, "%63s %lu %15s %ld %lu %ld", function, &code, when, &count, &wait, &number) == 6) {
    if (strcmp(function, name) != 0 && strcmp(function, "*") != 0) continue;
    if ((strcmp(when, "after") == 0) != after) continue;
    if (count >= 0 && !take(path, number, count)) continue;
    fclose(file);
    file = NULL;
    if (wait > 0) wait_ms(path, number, wait);
    meddle(when);
    found = code;
    break;
  }
  if (file != NULL) fclose(file);
  return found;
}

#define PASS(name, params, args) \
  static CK_RV shim_##name params { \
    CK_RV rv = fault(#name, 0); \
    if (rv != 0) return rv; \
    rv = real->name args; \
    CK_RV later = fault(#name, 1); \
    return later != 0 ? later : rv; \
  }

PASS(C_Initialize, (CK_VOID_PTR a), (a))
PASS(C_Finalize, (CK_VOID_PTR a), (a))
PASS(C_GetInfo, (CK_INFO_PTR a), (a))
PASS(C_Logout, (CK_SESSION_HANDLE a), (a))
PASS(C_DestroyObject, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b), (a, b))
PASS(C_DecryptInit, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_OBJECT_HANDLE c), (a, b, c))
PASS(C_Decrypt, (CK_SESSION_HANDLE a, CK_BYTE_PTR b, CK_ULONG c, CK_BYTE_PTR d, CK_ULONG_PTR e), (a, b, c, d, e))
PASS(C_DeriveKey, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_OBJECT_HANDLE c, CK_ATTRIBUTE_PTR d, CK_ULONG e, CK_OBJECT_HANDLE_PTR f), (a, b, c, d, e, f))
PASS(C_DigestInit, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b), (a, b))
PASS(C_DigestUpdate, (CK_SESSION_HANDLE a, CK_BYTE_PTR b, CK_ULONG c), (a, b, c))
PASS(C_DigestKey, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b), (a, b))
PASS(C_DigestFinal, (CK_SESSION_HANDLE a, CK_BYTE_PTR b, CK_ULONG_PTR c), (a, b, c))
PASS(C_GenerateRandom, (CK_SESSION_HANDLE a, CK_BYTE_PTR b, CK_ULONG c), (a, b, c))
PASS(C_GetSlotList, (CK_BBOOL a, CK_SLOT_ID_PTR b, CK_ULONG_PTR c), (a, b, c))
PASS(C_GetTokenInfo, (CK_SLOT_ID a, CK_TOKEN_INFO_PTR b), (a, b))
PASS(C_OpenSession, (CK_SLOT_ID a, CK_FLAGS b, CK_VOID_PTR c, CK_NOTIFY d, CK_SESSION_HANDLE_PTR e), (last_slot = a, b, c, d, e))
PASS(C_CloseSession, (CK_SESSION_HANDLE a), (a))
PASS(C_GetSessionInfo, (CK_SESSION_HANDLE a, CK_SESSION_INFO_PTR b), (a, b))
PASS(C_Login, (CK_SESSION_HANDLE a, CK_USER_TYPE b, CK_UTF8CHAR_PTR c, CK_ULONG d), (a, b, c, d))
PASS(C_CreateObject, (CK_SESSION_HANDLE a, CK_ATTRIBUTE_PTR b, CK_ULONG c, CK_OBJECT_HANDLE_PTR d), (a, b, c, d))
PASS(C_GetAttributeValue, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b, CK_ATTRIBUTE_PTR c, CK_ULONG d), (a, b, c, d))
PASS(C_FindObjectsInit, (CK_SESSION_HANDLE a, CK_ATTRIBUTE_PTR b, CK_ULONG c), (a, b, c))
PASS(C_FindObjects, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE_PTR b, CK_ULONG c, CK_ULONG_PTR d), (a, b, c, d))
PASS(C_FindObjectsFinal, (CK_SESSION_HANDLE a), (a))
PASS(C_EncryptInit, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_OBJECT_HANDLE c), (last_session = a, b, c))
PASS(C_Encrypt, (CK_SESSION_HANDLE a, CK_BYTE_PTR b, CK_ULONG c, CK_BYTE_PTR d, CK_ULONG_PTR e), (a, b, c, d, e))
PASS(C_CopyObject, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b, CK_ATTRIBUTE_PTR c, CK_ULONG d, CK_OBJECT_HANDLE_PTR e), (a, b, c, d, e))
PASS(C_SetAttributeValue, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b, CK_ATTRIBUTE_PTR c, CK_ULONG d), (a, b, c, d))
PASS(C_GenerateKey, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_ATTRIBUTE_PTR c, CK_ULONG d, CK_OBJECT_HANDLE_PTR e), (a, b, c, d, e))
PASS(C_GenerateKeyPair, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_ATTRIBUTE_PTR c, CK_ULONG d, CK_ATTRIBUTE_PTR e, CK_ULONG f, CK_OBJECT_HANDLE_PTR g, CK_OBJECT_HANDLE_PTR h), (a, b, c, d, e, f, g, h))
PASS(C_WrapKey, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_OBJECT_HANDLE c, CK_OBJECT_HANDLE d, CK_BYTE_PTR e, CK_ULONG_PTR f), (a, b, c, d, e, f))
PASS(C_UnwrapKey, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_OBJECT_HANDLE c, CK_BYTE_PTR d, CK_ULONG e, CK_ATTRIBUTE_PTR f, CK_ULONG g, CK_OBJECT_HANDLE_PTR h), (a, b, c, d, e, f, g, h))
PASS(C_SignInit, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_OBJECT_HANDLE c), (a, b, c))
PASS(C_Sign, (CK_SESSION_HANDLE a, CK_BYTE_PTR b, CK_ULONG c, CK_BYTE_PTR d, CK_ULONG_PTR e), (a, b, c, d, e))

#define SET(name) list.name = shim_##name;

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR out) {
  if (real == NULL) {
    const char *path = getenv("SHIM_MODULE");
    void *module = path == NULL ? NULL : dlopen(path, RTLD_NOW);
    CK_C_GetFunctionList get = module == NULL ? NULL : (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList");
    if (get == NULL || get(&real) != CKR_OK) return CKR_GENERAL_ERROR;
    list = *real;
    SET(C_Finalize) SET(C_GetInfo) SET(C_Logout) SET(C_DestroyObject) SET(C_DecryptInit) SET(C_Decrypt)
    SET(C_DeriveKey) SET(C_DigestInit) SET(C_DigestUpdate) SET(C_DigestKey) SET(C_DigestFinal) SET(C_GenerateRandom)
    SET(C_Initialize) SET(C_GetSlotList) SET(C_GetTokenInfo) SET(C_OpenSession) SET(C_CloseSession)
    SET(C_GetSessionInfo) SET(C_Login) SET(C_CreateObject) SET(C_GetAttributeValue) SET(C_FindObjectsInit)
    SET(C_FindObjects) SET(C_FindObjectsFinal) SET(C_EncryptInit) SET(C_Encrypt) SET(C_SignInit) SET(C_Sign)
    SET(C_CopyObject) SET(C_SetAttributeValue) SET(C_GenerateKey) SET(C_GenerateKeyPair) SET(C_WrapKey)
    SET(C_UnwrapKey)
  }
  *out = &list;
  return CKR_OK;
}
